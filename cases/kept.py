"""What takes long to draw and is always the same, kept between processes: in the user's cache folder, as pickles.

A kept thing is found by all that it depends on, so nothing has to be deleted: the text of this package, the versions
of Python and Hypothesis, and whatever its maker adds. Where nothing can be kept, everything is drawn anew.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def kept(name: str, make: Callable[[], T]) -> T:
    """What `make` returned, here or in a process before; `name` says what of this package that is."""
    file = folder() / f"{name}-{_state()}.pickle"
    with suppress(Exception):  # absent, cut short, or of a class that is no more: drawn anew
        found: T = pickle.loads(file.read_bytes())
        return found
    made = make()
    with suppress(OSError):
        _write(file, pickle.dumps(made))
    return made


def folder() -> Path:
    """Where things are kept: `gdn-verify` in $XDG_CACHE_HOME, or in ~/.cache."""
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return Path(cache_home or os.path.expanduser("~/.cache")) / "gdn-verify"


@cache
def _state() -> str:
    """A digest of all that decides what is drawn."""
    digest = hashlib.sha256(f"{sys.version} {version('hypothesis')}".encode())
    for file in sorted(Path(__file__).resolve().parent.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _write(file: Path, content: bytes) -> None:
    """All of it or nothing, also where two processes do so at once; others' eyes and hands are kept off."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as new:
        new.write(content)
    os.replace(new.name, file)
