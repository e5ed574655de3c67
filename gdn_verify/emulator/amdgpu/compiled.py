"""Compiled once a machine: code kept on disk for as long as no source of this folder changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba


def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_STAMP = _stamp()


def cached(function: Callable[..., Any]) -> Any:
    """Compile, GIL-free, and keep the code: beside the sources, in `NUMBA_CACHE_DIR`, or in the user's cache.

    numba looks only at the file of the function itself, and instructions stand in others: all of them join the stamp.
    """
    try:
        dispatcher = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep it in
        return numba.njit(nogil=True, error_model="numpy")(function)
    with suppress(AttributeError):
        file = dispatcher._cache._cache_file
        file._source_stamp = (file._source_stamp, _STAMP)
    return dispatcher
