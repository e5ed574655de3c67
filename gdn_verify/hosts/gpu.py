"""A real card: CUDA or ROCm, told apart by the torch build, one process a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from gdn_verify.hosts.autotune import choose, pin_autotuning
from gdn_verify.hosts.base import SINGLE_THREAD, Host
from gdn_verify.hosts.circumstances import CARD, Circumstance
from gdn_verify.hosts.dispatch import dispatches


@dataclass(frozen=True)
class Gpu(Host):
    """The first visible device of a vendor."""

    def missing(self) -> str | None:
        import torch

        built = torch.version.cuda if self.name == "cuda" else torch.version.hip
        if not built:
            return f"torch {torch.__version__} is not built for {self.name}"
        return None if torch.cuda.is_available() else f"no {self.name} device is visible"

    def prepare(self) -> None:
        if find_spec("triton"):
            pin_autotuning()

    def describe(self) -> str:
        import torch

        return f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}"

    def synchronize(self) -> None:
        import torch

        torch.cuda.synchronize()

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        import torch

        from gdn_verify.emulator.tape import CaptureError

        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                run()
        except RuntimeError as error:
            raise CaptureError(str(_first(error)).strip().splitlines()[0]) from error
        return graph.replay

    def pin(self, place: int) -> None:
        choose(place)

    def circumstances(self) -> tuple[Circumstance, ...]:
        return CARD

    def dispatches(self) -> Iterable[str]:
        return dispatches() if find_spec("triton") else ()

    @contextmanager
    def launches(self) -> Iterator[list[str]]:
        from gdn_verify.kernels.cuda.observe import observed

        names: list[str] = []
        with observed(lambda name, _: names.append(name)), _triton_launches(names):
            yield names


@contextmanager
def _triton_launches(names: list[str]) -> Iterator[None]:
    """Adds the names of Triton kernels launched within the block, where there is Triton."""
    if not find_spec("triton"):
        yield
        return
    from triton import knobs

    def note(metadata: Any) -> None:
        names.append(str(metadata.get()["name"]))

    before = knobs.runtime.launch_enter_hook
    knobs.runtime.launch_enter_hook = note
    try:
        yield
    finally:
        knobs.runtime.launch_enter_hook = before


def _first(error: BaseException) -> BaseException:
    """What went wrong in a capture, and not that it then could not be ended."""
    while error.__context__ is not None:
        error = error.__context__
    return error


CUDA = Gpu(name="cuda", device="cuda", environment={**SINGLE_THREAD, "TRITON_INTERPRET": "0"})
ROCM = Gpu(name="rocm", device="cuda", environment={**SINGLE_THREAD, "TRITON_INTERPRET": "0"})
