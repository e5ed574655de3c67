"""A launch on a machine that is not there: tensors get windows of addresses, workgroups run, findings are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gdn_verify.emulator.amdgpu import state as st
from gdn_verify.emulator.amdgpu.faults import WORDS, Fault
from gdn_verify.emulator.amdgpu.kernel import Kernel, pack
from gdn_verify.emulator.amdgpu.schedule import run_launch
from gdn_verify.emulator.amdgpu.state import State, make_state
from gdn_verify.emulator.windows import View

MOST_INSTRUCTIONS = 2_000_000_000
"""After so many a launch is stopped."""
_ALIGNED = 256


class LaunchError(RuntimeError):
    """A launch did what no kernel may do and nobody watched, or what is not modelled; the message says all of it."""


@dataclass(frozen=True)
class Schedule:
    """Whose turn it is: `resident` workgroups at once, `quantum` instructions a turn; at random for a `seed` not 0."""

    resident: int = 2
    quantum: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resident < 1 or self.quantum < 1:
            raise ValueError(f"resident={self.resident} and quantum={self.quantum} are at least 1")


@dataclass(frozen=True)
class Finding:
    """What one instruction does wrong in one way, in words; `count` lanes did, first `lane` of a wave of `group`."""

    fault: Fault
    kernel: Kernel
    row: int
    wave: int
    group: int
    lane: int
    address: int
    count: int
    other: int

    def __str__(self) -> str:
        where = self.kernel.instructions[self.row]
        return (
            f"{WORDS[self.fault]}: {where.name} at byte {where.offset:#x} of {self.kernel.name}, "
            f"workgroup {self.group}, wave {self.wave}, lane {self.lane}, {self.address:#x}; {self.count} in all"
        )


class Watcher(Protocol):
    """Who knows what of memory holds a value, and wants to know what is found."""

    def shadow(self, tensor: torch.Tensor) -> int:
        """The address of the byte that tells of the tensor's first byte; 0 if nothing is known of it."""
        ...

    def found(self, finding: Finding, windows: Windows) -> None: ...


@dataclass
class Windows:
    """The addresses of a launch's tensors, by their place among the arguments."""

    names: list[str] = field(default_factory=list)
    views: list[View | None] = field(default_factory=list)
    rows: list[NDArray[np.int64]] = field(default_factory=lambda: [np.zeros(st.WINDOW_COLUMNS, np.int64)])

    def open(self, name: str, tensor: torch.Tensor, shadow: int) -> int:
        """A window for a view; gives the address of its first element."""
        view, real = View(tensor), tensor.data_ptr()
        row = self._row(real, view.run)
        if len(view.levels) > st.MOST_LEVELS:
            raise LaunchError(f"{name} of shape {view.shape} has more than {st.MOST_LEVELS} strides that leave holes")
        row[st.SHADOW], row[st.LEVELS] = shadow, len(view.levels)
        for n, level in enumerate(view.levels):
            row[st.LEVEL + 3 * n : st.LEVEL + 3 * n + 3] = level.count, level.step, level.real
        self.names.append(name)
        self.views.append(view)
        return int(row[st.BASE])

    def open_arguments(self, packed: NDArray[np.uint8]) -> int:
        """A window for the arguments themselves, which no kernel writes."""
        row = self._row(packed.ctypes.data, len(packed))
        row[st.READ_ONLY] = 1
        self.names.append("the arguments")
        self.views.append(None)
        return int(row[st.BASE])

    def _row(self, real: int, run: int) -> NDArray[np.int64]:
        row = np.zeros(st.WINDOW_COLUMNS, np.int64)
        number = len(self.rows)
        if number >= 1 << (47 - st.WINDOW):
            raise LaunchError(f"more than {number - 1} pointers in a launch")
        row[st.BASE] = (number << st.WINDOW) + (1 << (st.WINDOW - 1)) + real % _ALIGNED
        row[st.REAL], row[st.RUN] = real, run
        self.rows.append(row)
        return row

    def array(self) -> NDArray[np.int64]:
        """As compiled code reads them."""
        return np.stack(self.rows)


@dataclass(frozen=True)
class Launch:
    """A kernel that was executed."""

    kernel: str
    grid: tuple[int, int, int]
    instructions: int


schedule = Schedule()
"""Of launches made now."""
watcher: Watcher | None = None
recorders: list[list[Launch]] = []
"""Every launch is appended to each of these lists."""


@contextmanager
def scheduled(wanted: Schedule) -> Iterator[None]:
    """Run the launches of a block in another order."""
    global schedule
    before, schedule = schedule, wanted
    try:
        yield
    finally:
        schedule = before


@contextmanager
def launches() -> Iterator[list[Launch]]:
    """Collect the kernels executed inside the block, in order."""
    ran: list[Launch] = []
    recorders.append(ran)
    try:
        yield ran
    finally:
        recorders[:] = [each for each in recorders if each is not ran]


def launch(
    kernel: Kernel, grid: Sequence[int], names: Sequence[str], signature: Sequence[str], values: Sequence[Any]
) -> None:
    """Execute a kernel on CPU tensors. `signature` has Triton's type of each argument, pointers with an asterisk.

    Raises LaunchError for a finding where nobody watches, and always for what is not modelled.
    """
    windows = Windows()
    opened = [_argument(windows, *each) for each in zip(names, signature, values, strict=True)]
    size = kernel.descriptor.kernarg_bytes
    packed = np.frombuffer(pack(signature, opened, size), np.uint8).copy()
    arguments = windows.open_arguments(packed) if size else 0
    setup = kernel.setup(grid, arguments, packed.tobytes())
    groups = int(np.prod(grid))
    resident = min(schedule.resident, groups)
    state = _state(kernel, resident, windows.array())
    seed = np.array([schedule.seed], np.uint64)
    order = np.arange(groups) if not schedule.seed else np.random.default_rng(schedule.seed).permutation(groups)
    count = 0
    if groups:
        count = run_launch(state, kernel.program, setup, resident, order, schedule.quantum, seed, MOST_INSTRUCTIONS)
    for ran in recorders:
        ran.append(Launch(kernel.name, (grid[0], grid[1], grid[2]), int(count)))
    _report(kernel, state, windows)


def _argument(windows: Windows, name: str, kind: str, value: Any) -> Any:
    if not kind.startswith("*"):
        return value
    if not isinstance(value, torch.Tensor):
        return 0 if value is None else int(value)
    if not value.numel():
        return 0
    return windows.open(name, value, watcher.shadow(value) if watcher else 0)


_kept: dict[tuple[int, int, int, int], State] = {}


def _state(kernel: Kernel, resident: int, windows: NDArray[np.int64]) -> State:
    """Registers and shared memory, kept for the next launch of this size: what they hold counts as nothing."""
    size = resident * kernel.waves, resident, kernel.shared_bytes, kernel.descriptor.private_bytes
    if size not in _kept:
        if len(_kept) > 8:
            _kept.clear()
        _kept[size] = make_state(*size, windows)
    state = _kept[size]._replace(windows=windows)
    state.found[0] = 0
    return state


def _report(kernel: Kernel, state: State, windows: Windows) -> None:
    found = []
    for line in state.findings[: state.found[0]]:
        kind, row, wave, group, lane, address, count, other = (int(x) for x in line)
        found.append(Finding(Fault(kind), kernel, row, wave, group, lane, address, count, other))
    fatal = [each for each in found if watcher is None or each.fault is Fault.REFUSED]
    if fatal:
        raise LaunchError("; ".join(map(str, fatal[:8])))
    for each in found:
        assert watcher is not None
        watcher.found(each, windows)
