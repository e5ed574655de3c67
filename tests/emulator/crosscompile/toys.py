"""Small kernels with one trouble each, and calls that capture and compile them; imported where Triton compiles."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
import triton
import triton.language as tl
from triton import knobs
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from gdn_verify.emulator.crosscompile.capture import CapturedLaunch, capture
from gdn_verify.emulator.crosscompile.compile import compile_launch
from gdn_verify.emulator.crosscompile.resources import Compiled
from gdn_verify.emulator.crosscompile.targets import CHIPS, Chip
from gdn_verify.emulator.interpreter import EmulatorError


@triton.jit
def add(x, y, n, N: tl.constexpr):
    index = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(y + index, tl.load(x + index, mask=index < n) + 1, mask=index < n)


@triton.jit(do_not_specialize=["n"])
def add_unspecialised(x, y, n, N: tl.constexpr):
    index = tl.arange(0, N)
    tl.store(y + index, tl.load(x + index, mask=index < n) + 1, mask=index < n)


@triton.jit
def gathered(x, y, N: tl.constexpr):
    """Values picked from all over a block pass through shared memory: 4·N bytes."""
    index = tl.arange(0, N)
    tl.store(y + index, tl.gather(tl.load(x + index), tl.load(y + index).to(tl.int32), 0))


SIZES = [triton.Config({"N": N}, num_warps=8) for N in (4096, 32768)]
tuned = triton.autotune(SIZES, key=["x"])(gathered)
FIRST = {"early_config_prune": lambda configs, named, **more: configs[:1]}
pruned = triton.autotune(SIZES, key=["x"], prune_configs_by=FIRST)(gathered)


@triton.jit
def crowded(x, y, N: tl.constexpr):
    """N values that one warp must hold at once."""
    index = tl.arange(0, N)
    value = tl.load(x + index)
    tl.store(y + index, value / tl.sum(value, 0))


@triton.jit
def inline_ptx(x, y, N: tl.constexpr):
    index = tl.arange(0, N)
    value = tl.load(x + index)
    value = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [value], dtype=tl.float32, is_pure=True, pack=1)
    tl.store(y + index, value)


@triton.jit
def by_target(x):
    if tl.target_info.is_cuda():
        tl.store(x, 1.0)
    else:
        tl.store(x, 2.0)


@triton.jit
def through_descriptor(source, y, N: tl.constexpr):
    row, column = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    tl.store(y + row * N + column, source.load([0, 0]))


@triton.jit
def from_tuple(arguments, bias):
    value = tl.load(arguments[0]) + arguments[2]
    if bias is not None:
        value += tl.load(bias)
    tl.store(arguments[1], value)


X = torch.zeros(256 * 256)
_SQUEEZED: dict[str, dict[str, int]] = {"cuda": {"maxnreg": 32}, "hip": {"waves_per_eu": 8}}
"""Options that leave a thread too few registers for `crowded`."""

LAUNCHES: dict[str, Callable[[Chip], object]] = {
    "healthy": lambda chip: add[(4,)](X, X, 1024, 256),
    "gathered": lambda chip: gathered[(1,)](X, X, 32768, num_warps=8),
    "tuned": lambda chip: tuned[(1,)](X, X),
    "pruned": lambda chip: pruned[(1,)](X, X),
    "crowded": lambda chip: crowded[(1,)](X, X, 4096, num_warps=1, **_SQUEEZED[chip.backend]),
    "32 warps": lambda chip: add[(1,)](X, X, 1024, 256, num_warps=32),
    "inline PTX": lambda chip: inline_ptx[(1,)](X, X, 256),
    "by target": lambda chip: by_target[(1,)](X),
    "descriptor": lambda chip: through_descriptor[(1,)](
        TensorDescriptor.from_tensor(X.view(256, 256), [32, 32]), X, 32
    ),
    "tuple": lambda chip: from_tuple[(1,)]((X, X, 3), None),
}


def _captured(name: str, chip: Chip) -> list[CapturedLaunch]:
    with capture(chip) as launches:
        LAUNCHES[name](chip)
    return launches


def compiled(name: str, chip: str) -> list[tuple[str, Compiled]]:
    """What one of LAUNCHES comes to on a chip: each configuration in words, and its resources or error."""
    found = _captured(name, CHIPS[chip])
    return [(launch.configuration, compile_launch(launch, CHIPS[chip])) for launch in found]


def configurations(name: str, chip: str) -> list[str]:
    """The configurations captured, not compiled."""
    return [launch.configuration for launch in _captured(name, CHIPS[chip])]


def specialisations(chip: str, *numbers: int, special: bool = True) -> list[tuple[str, bool]]:
    """For each value of the integer `n`: its type, and whether it counts as a multiple of 16."""
    kernel = add if special else add_unspecialised
    found = []
    for number in numbers:
        with capture(CHIPS[chip]) as launches:
            kernel[(1,)](X, X, number, 256)
        (launch,) = launches
        found.append((launch.signature["n"], bool(launch.attributes.get((2,)))))
    return found


def repeated(chip: str) -> int:
    """How many launches are kept of the same one made thrice, and of one whose pointer is not aligned."""
    with capture(CHIPS[chip]) as launches:
        for _ in range(3):
            add[(1,)](X, X, 1024, 256)
        add[(1,)](X[1:], X, 1024, 256)
    return len(launches)


def seen_inside(chip: str) -> dict[str, Any]:
    """What libraries are told within the block."""
    with capture(CHIPS[chip]):
        return {
            "target": vars(driver.active.get_current_target()),
            "shared": driver.active.utils.get_device_properties(0)["max_shared_mem"],
            "capability": torch.cuda.get_device_capability(),
            "name": torch.cuda.get_device_name(0),
        }


def _patched() -> list[Any]:
    owners = ((driver, "_active"), (JITFunction, "_do_compile"), (Autotuner, "run"), (torch.cpu, "device"))
    owners += tuple((torch.cuda, name) for name in ("get_device_name", "device", "current_device"))
    return [vars(owner).get(name) for owner, name in owners]


def left_behind() -> bool:
    """Whether anything is changed after a block that raised."""
    before = _patched()
    try:
        with capture(CHIPS["gfx942"]):
            assert _patched() != before
            raise KeyError
    except KeyError:
        return _patched() != before


def on_real_device(chip: str) -> str:
    """What a wrapper that checks its tensors does."""
    with capture(CHIPS[chip]):
        if not X.is_cuda:
            return "refused"
    return "launched"


def under_interpreter() -> str:
    """The error of a capture in interpreter mode."""
    knobs.runtime.interpret = True
    try:
        with capture(CHIPS["gfx942"]):
            return ""
    except EmulatorError as error:
        return str(error)
    finally:
        knobs.runtime.interpret = False


def _abort(*args: Any, **kwargs: Any) -> None:
    os.write(2, b"LLVM ERROR: out of ideas\n")
    os.kill(os.getpid(), signal.SIGABRT)


def _hang(*args: Any, **kwargs: Any) -> None:
    time.sleep(3600)


def _mumble(*args: Any, **kwargs: Any) -> Any:
    return SimpleNamespace(asm={"amdgcn": ".vgpr_count: 8"}, metadata=None)


COMPILERS: dict[str, Callable[..., Any]] = {"aborts": _abort, "hangs": _hang, "mumbles": _mumble}


def with_compiler(which: str, chip: str, patience: float) -> Compiled:
    """A healthy launch, compiled by a compiler that is not."""
    (launch,) = _captured("healthy", CHIPS[chip])
    kernel = SimpleNamespace(ASTSource=lambda *args: None, compile=COMPILERS[which])
    return compile_launch(replace(launch, kernel=kernel), CHIPS[chip], patience)
