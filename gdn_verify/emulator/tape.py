"""What a captured graph does, on a machine that captures none: the same work again, without the host code around it.

    with recording() as tape:
        launch(q, pool, state_indices, out)     # runs, and is recorded
    state_indices.copy_(others)                 # new contents in the same buffers
    tape.replay()

As in a graph of CUDA or HIP, what Python decided while recording stays decided, tensors keep their addresses, and
whoever looks at a tensor's contents from the host is refused: under a capture the numbers are not there yet.

What it cannot see: a custom operator is one step, whose own host code runs again; the order of work that a graph leaves
open; and memory that a graph's pool hands to two tensors in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[], object]

UNIQUE = ("_unique2", "unique_dim", "unique_consecutive")
READS = frozenset(("_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount", *UNIQUE))
"""Operators that hand contents, or a size that follows from contents, to the host."""
METHODS = frozenset(("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__"))
"""Methods of a tensor that do so; on a processor's own tensors some of them are no operators."""


class CaptureError(RuntimeError):
    """The launch cannot be captured; the message says what it did."""


class Tape:
    """The steps of a launch, in order."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Step) -> None:
        """Record a step that has just been done."""
        self._steps.append(step)

    def replay(self) -> None:
        """Do all steps again, on whatever their tensors hold now."""
        for step in self._steps:
            step()


_tapes: list[Tape] = []
"""Every launch of an interpreted kernel is recorded on each of these."""


def note(step: Step) -> None:
    """What the interpreter says of a kernel that it runs."""
    for tape in _tapes:
        tape.add(step)


@contextmanager
def recording() -> Iterator[Tape]:
    """Record the operators and interpreted kernels that run within. Raises CaptureError from a read of contents."""
    tape = Tape()
    _tapes.append(tape)
    try:
        with _Reads(), _Operators(tape):
            yield tape
    finally:
        _tapes.remove(tape)


class _Reads(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in METHODS and args and isinstance(args[0], Tensor):
            raise CaptureError(f"Tensor.{name}() reads contents on the host, which a capture does not have")
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        _refuse_reads(func, args, kwargs)
        result = func(*args, **kwargs)
        if (step := _again(func, args, kwargs, result)) is not None:
            self._tape.add(step)
        return result


def _refuse_reads(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    name = func._schema.name.split("::")[-1]
    picks = name.startswith("index") and any(_is_mask(x) for part in args if isinstance(part, list) for x in part)
    sized = name != "repeat_interleave" or kwargs.get("output_size") is not None
    if name in READS or picks or not sized:
        raise CaptureError(f"{func._schema.name} hands the host a size or a value that only the device has")


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _again(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Step | None:
    """The operator once more, its fresh results put where the first ones are; None for what only makes a view."""
    returns = func._schema.returns
    fresh = [r.alias_info is None for r in returns]
    writes = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
    if not (writes or any(fresh)) or "empty" in func._schema.name:
        return None

    def step() -> None:
        for new, old in zip(_tensors(func(*args, **kwargs)), _tensors(result), strict=True):
            if new is not old and new.data_ptr() != old.data_ptr():
                old.copy_(new)

    return step


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [x for part in result for x in _tensors(part)] if isinstance(result, tuple | list) else []
