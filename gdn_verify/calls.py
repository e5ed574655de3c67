"""The calls that a path makes of its implementation, recorded: functions, arguments, results.

A repro makes the same calls without this suite. Arguments are kept as they were handed over, and the bytes of tensors
as they were before the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from unittest.mock import patch

from torch import Tensor


class NoEntryError(LookupError):
    """A path names no function that a script without this suite could call; the message says which."""


@dataclass
class Call:
    """A call of "module:function". `before` holds copies of the tensors in its arguments, by (address, shape)."""

    entry: str
    arguments: Sequence[object]
    keywords: Mapping[str, object]
    result: object = None
    before: dict[tuple[int, tuple[int, ...]], Tensor] = field(default_factory=dict)

    @property
    def tensors(self) -> Iterator[Tensor]:
        """Those in its arguments, in order."""
        return tensors_of([*self.arguments, *self.keywords.values()])


def key(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    """What tells a tensor from others while a launch lasts."""
    return tensor.data_ptr(), tuple(tensor.shape)


def tensors_of(value: object) -> Iterator[Tensor]:
    """All tensors in a nest of sequences, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_of(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_of(item)
    elif hasattr(value, "__dataclass_fields__"):
        yield from tensors_of([getattr(value, name) for name in value.__dataclass_fields__])


@contextmanager
def recorded(entries: Sequence[str]) -> Iterator[list[Call]]:
    """The calls of these functions, "module:function" each, that are looked up in their modules meanwhile.

    Raises NoEntryError where there are none.
    """
    if not entries:
        raise NoEntryError("the path names no entries: functions that a script could call (Path.entries)")
    calls: list[Call] = []
    with ExitStack() as stack:
        for entry in entries:
            module, name = entry.split(":")
            home = import_module(module)
            stack.enter_context(patch.object(home, name, _recorder(entry, getattr(home, name), calls)))
        yield calls


def _recorder(entry: str, function: Callable[..., object], calls: list[Call]) -> Callable[..., object]:
    def call(*arguments: object, **keywords: object) -> object:
        bound = inspect.signature(function).bind(*arguments, **keywords)
        kept = {name: dict(v) if isinstance(v, dict) else v for name, v in bound.kwargs.items()}  # as it was before
        made = Call(entry, bound.args, kept)
        made.before = {key(tensor): tensor.detach().cpu().clone() for tensor in made.tensors}
        calls.append(made)
        made.result = function(*arguments, **keywords)
        return made.result

    return call
