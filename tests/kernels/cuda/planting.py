"""Defects by their source: the kernels with one place changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from gdn_verify.kernels.cuda import plans, sources


@contextmanager
def planted(file: str, right: str, wrong: str) -> Iterator[None]:
    """Whoever launches within the block launches the changed kernel; LookupError unless the place is there once."""
    reading = sources.read

    def read(name: str) -> str:
        text = reading(name)
        if not name.endswith(f"/{file}"):
            return text
        if (times := text.count(right)) != 1:
            raise LookupError(f"{file} has {right!r} {times} times; plant the defect anew")
        return text.replace(right, wrong)

    with patch.object(sources, "read", read):
        _forget()
        try:
            yield
        finally:
            _forget()


def _forget() -> None:
    sources.whole.cache_clear()
    plans.plan_of.cache_clear()  # kernels are found by their identity
