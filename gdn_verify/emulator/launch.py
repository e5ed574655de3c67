"""Launching a kernel: bind the arguments, run every program, and keep a record of it."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Protocol

import numpy as np
from triton.runtime import interpreter as stock
from triton.runtime.jit import _normalize_ty

from gdn_verify.emulator import tape


@dataclass(frozen=True)
class Launch:
    """A kernel that ran in the interpreter: its function's name and its three-dimensional grid."""

    kernel: str
    grid: tuple[int, int, int]


recorders: list[list[Launch]] = []
"""Every launch is appended to each of these lists."""


_listings: list[list[Launch]] = []
"""While there is one, launches are appended to it, and no program is run."""


@contextmanager
def listed() -> Iterator[list[Launch]]:
    """Launches made in the block, with their grids; none of their programs is run, and what they would write is not."""
    _listings.append([])
    try:
        yield _listings[-1]
    finally:
        _listings.pop()


class Watcher(Protocol):
    """Who wants to see launches as they happen, and what a kernel is given."""

    def start_launch(self, kernel: str) -> None: ...

    def convert(self, name: str, value: Any) -> Any: ...

    def start_program(self, index: tuple[int, int, int]) -> None: ...


watcher: Watcher | None = None
"""The memory checker, while there is one."""


@dataclass(frozen=True)
class _Signature:
    names: tuple[str, ...]
    defaults: dict[str, Any]
    constexprs: frozenset[str]


@cache
def _signature(fn: Any) -> _Signature:
    parameters = inspect.signature(fn).parameters
    defaults = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
    annotated = {n: _normalize_ty(t) for n, t in fn.__annotations__.items()}
    return _Signature(tuple(parameters), defaults, frozenset(n for n, t in annotated.items() if t == "constexpr"))


def install() -> None:
    """Replace the stock launch, which binds anew and copies the arguments' storages every time."""
    stock.GridExecutor.__init__ = _init
    stock.GridExecutor.__call__ = _run
    stock.InterpretedFunction.__call__ = _call_device_function


def _init(self: Any, fn: Any, arg_names: Any, grid: Any, pre_run_hooks: Any = ()) -> None:
    self.fn, self.arg_names, self.grid, self.pre_run_hooks = fn, arg_names, grid, pre_run_hooks
    self.constexprs = _signature(fn).constexprs


def _run(self: Any, *args: Any, **kwargs: Any) -> None:
    tape.note(lambda: _run(self, *args, **kwargs))
    bound = _bind(self.fn, args, kwargs)
    for hook in self.pre_run_hooks:
        hook(**bound)
    if watcher is not None:
        watcher.start_launch(self.fn.__name__)
    grid = _grid(self.grid, bound)  # before they are converted: a grid may put others in their place, on a card too
    convert = _convert if watcher is None else watcher.convert
    values = {n: x if n in self.constexprs else convert(n, x) for n, x in bound.items()}
    launch = Launch(self.fn.__name__, grid)
    if _listings:
        _listings[-1].append(launch)
        return
    for recorder in recorders:
        recorder.append(launch)
    run_programs(self.fn, launch, values)


def _convert(name: str, value: Any) -> Any:
    return stock._implicit_cvt(value)


def run_programs(fn: Any, launch: Launch, values: dict[str, Any]) -> None:
    """Run a kernel's programs one after the other."""
    builder = stock.interpreter_builder
    builder.set_grid_dim(*launch.grid)
    try:
        with np.errstate(all="ignore"):  # overflow and NaN are values here, as on a GPU
            for index in program_order(launch.grid):
                builder.set_grid_idx(*index)
                if watcher is not None:
                    watcher.start_program(index)
                fn(**values)
    except stock.InterpreterError:
        raise
    except Exception as error:
        raise stock.InterpreterError(f"{launch.kernel}, program {builder.grid_idx}: {error!r}") from error
    finally:
        builder.grid_idx = None


def program_order(grid: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """All programs of a grid, in an order without meaning that is the same for the same grid: a card promises none."""
    programs = list(np.ndindex(grid))
    Random(str(grid)).shuffle(programs)
    return programs


def _bind(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    signature = _signature(fn)
    if len(args) > len(signature.names):
        raise TypeError(f"{fn.__name__} takes {len(signature.names)} arguments, got {len(args)}")
    given = dict(zip(signature.names, args, strict=False))
    # Launch options such as num_warps are keyword arguments too, and mean nothing here.
    bound = signature.defaults | given | {n: x for n, x in kwargs.items() if n in signature.names}
    missing = [n for n in signature.names if n not in bound]
    if missing:
        raise TypeError(f"{fn.__name__} is missing the arguments {missing}")
    for name, value in bound.items():
        if hasattr(value, "device") and value.device.type != "cpu":
            raise ValueError(f"{fn.__name__}: {name} is on {value.device}; the interpreter takes CPU tensors")
    return bound


def _grid(grid: Any, values: dict[str, Any]) -> tuple[int, int, int]:
    sizes = grid(values) if callable(grid) else grid
    sizes = tuple(int(n) for n in sizes)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"a grid has one to three dimensions, got {sizes}")
    x, y, z = sizes + (1,) * (3 - len(sizes))
    return x, y, z


def _call_device_function(self: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return self.rewrite()(*args, **kwargs)
    except stock.InterpreterError:
        raise
    except Exception as error:
        raise stock.InterpreterError(f"{self.fn.__name__}: {error!r}") from error
