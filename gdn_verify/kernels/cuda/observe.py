"""Who is told of launches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observer = Callable[[str, Callable[[], None]], None]
_observers: list[Observer] = []


def tell(kernel: str, again: Callable[[], None]) -> None:
    """A kernel of this name was launched; `again` makes the same launch."""
    for observer in _observers:
        observer(kernel, again)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """The observer is told of each launch within the block."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)
