"""Triton's driver for a chip that is executed here: kernels are compiled for it, loaded, and run on CPU tensors.

    with executing(CHIPS["gfx942"]):
        fused_recurrent_gated_delta_rule(q, k, v, ...)

Everything above the driver is Triton's own: the binding of arguments, specialisation, the cache of compiled kernels,
hooks, the refusal of a kernel that needs more shared memory than the chip has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from triton import knobs
from triton.runtime.autotuner import Autotuner

from gdn_verify.emulator import tape
from gdn_verify.emulator.amdgpu import launch as launching
from gdn_verify.emulator.amdgpu.codeobject import CodeObject
from gdn_verify.emulator.amdgpu.kernel import Kernel
from gdn_verify.emulator.crosscompile.standin import StandInDriver, replace, stand_in
from gdn_verify.emulator.crosscompile.targets import MAX_THREADS, Chip
from gdn_verify.emulator.driver import ConfigChoice, first_config
from gdn_verify.emulator.interpreter import EmulatorError


class EmulatedDriver(StandInDriver):
    """See the module."""

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip)
        self.launcher_cls = _Launcher

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[Any, Any, int, int, int]:
        """What Triton keeps of a loaded kernel: module, function, registers, spills, most threads."""
        code = CodeObject(binary)
        function = name, code, str(self.target.arch), shared
        return code, function, 0, 0, MAX_THREADS

    def get_empty_cache_for_benchmark(self) -> torch.Tensor:
        """Nothing is measured here."""
        return torch.empty(1, dtype=torch.int32)


class _Launcher:
    """What Triton calls with a grid and a kernel's arguments."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self._names, self._signature = list(source.signature), list(source.signature.values())
        self._waves = metadata.num_warps
        self._kernel: Kernel | None = None

    def __call__(
        self,
        x: int,
        y: int,
        z: int,
        stream: Any,
        function: Any,
        packed: Any,
        metadata: Any,
        enter: Any,
        leave: Any,
        *args: Any,
    ) -> None:
        if self._kernel is None:
            name, code, arch, shared = function
            self._kernel = Kernel(name, code, arch, shared, self._waves)
        kernel = self._kernel
        given = [each for n, (kind, value) in enumerate(zip(self._signature, args, strict=True))
                 for each in _flat(str(self._names[n]), kind, value)]  # fmt: skip
        names, signature, values = (list(part) for part in zip(*given, strict=True)) if given else ([], [], [])

        def run() -> None:
            launching.launch(kernel, (x, y, z), names, signature, values)

        if enter is not None:
            enter(metadata)
        run()
        tape.note(run)
        if leave is not None:
            leave(metadata)


def _flat(name: str, kind: Any, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Arguments as the kernel takes them: tuples flat, constants left out."""
    if isinstance(kind, tuple):
        for n, (inner, part) in enumerate(zip(kind, value, strict=True)):
            yield from _flat(f"{name}[{n}]", inner, part)
    elif kind != "constexpr":
        if kind.startswith("tensordesc"):
            raise EmulatorError(f"{name} is a tensor descriptor: not modelled")
        yield name, kind, value


@contextmanager
def executing(chip: Chip, choose: ConfigChoice = first_config) -> Iterator[None]:
    """Execute all Triton kernels launched within the block as `chip` would.

    Import libraries inside: many ask for their device while they are imported. Raises EmulatorError in Triton's
    interpreter mode, and for a chip whose machine code is not known.
    """
    if knobs.runtime.interpret:
        raise EmulatorError("kernels decorated for the interpreter are not compiled; unset TRITON_INTERPRET")
    if chip.name not in ("gfx942", "gfx950"):
        raise EmulatorError(f"machine code of {chip} is not known; gfx942 and gfx950 are")
    with stand_in(chip), ExitStack() as stack:
        from triton.runtime import driver

        replace(stack, driver, "_active", EmulatedDriver(chip))
        replace(stack, Autotuner, "prune_configs", _pruned(choose))
        replace(stack, Autotuner, "_bench", lambda self, *args, config, **meta: [0.0, 0.0, 0.0])
        yield


def _pruned(choose: ConfigChoice) -> Any:
    prune = Autotuner.prune_configs

    def prune_configs(self: Any, kwargs: dict[str, Any]) -> list[Any]:
        configs = prune(self, kwargs)
        return [configs[choose(self.base_fn.__name__, len(configs))]]

    return prune_configs
