"""What a host is: an environment before import, a device, a probe, and a record of what was launched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gdn_verify.hosts.circumstances import PROCESSOR, Circumstance

if TYPE_CHECKING:
    import torch

    from gdn_verify.emulator.access import Known
    from gdn_verify.emulator.memory_check import Checker

    MemoryChecker = Callable[[Iterable[Known]], AbstractContextManager[Checker]]

# A worker runs one kernel at a time; threads of several libraries beside each other only get in the way.
SINGLE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


Grids = list[tuple[str, tuple[int, int, int]]]
"""Names of kernels, and how many programs each has along three axes."""


@dataclass(frozen=True)
class Host:
    """A place to run paths. Subclasses say what differs; this one is plain Python on the processor.

    Workers are started `under` a command that runs the rest of its line, where there is one.
    """

    name: str
    device: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(SINGLE_THREAD))
    under: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Why nothing can run here, or None. Called in the worker."""
        return None

    def prepare(self) -> None:
        """Make the process ready, before any kernel is imported."""

    def describe(self) -> str:
        """The device and the toolchain, for records."""
        import platform

        return platform.processor() or platform.machine()

    def kind_of(self, tensor: torch.Tensor) -> str:
        """What holds a result, `cpu`, `cuda` or `rocm`: by the tensor and torch's build, not by this host's name."""
        import torch

        kind = tensor.device.type
        return "rocm" if kind == "cuda" and torch.version.hip else kind

    def synchronize(self) -> None:
        """Wait for the device, so that a fault belongs to the launch that caused it."""

    def capture(self, run: Callable[[], object]) -> Callable[[], object]:
        """Run, as a graph is captured, and what does the same work again on the same buffers, without the host code.

        Raises CaptureError where the work cannot be captured. On a processor it is a stand-in (`emulator.tape`).
        """
        from gdn_verify.emulator.tape import recording

        with recording() as tape:
            run()
        return tape.replay

    def pin(self, place: int) -> None:
        """Pin autotuned kernels to the configuration at this place, counted round, where there are any."""

    def circumstances(self) -> tuple[Circumstance, ...]:
        """What is around a launch that is made again, and must not change its bits."""
        return PROCESSOR

    def memory_checker(self) -> MemoryChecker | None:
        """What checks every access of the Triton kernels that run within its block; None on a host that cannot."""
        return None

    def listing(self) -> AbstractContextManager[Grids] | None:
        """Lists the kernels launched within its block, and runs none of their programs; None on a host that cannot."""
        return None

    def dispatches(self) -> Iterable[str]:
        """Of specialised kernels that were compiled: the name and the places of Triton's own dispatch of warps."""
        return ()

    @contextmanager
    def launches(self) -> Iterator[list[str]]:
        """Names of the Triton and CUDA kernels launched within the block; empty on a host that runs none."""
        yield []
