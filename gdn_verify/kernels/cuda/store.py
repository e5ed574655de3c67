"""What was compiled, kept on disk between processes: found by a hash of all it depends on, and checked by another.

An entry is a file that begins with the hash of the rest. It is written under a name of its own and then renamed, so
that no process ever finds half of one; one that is truncated or foreign is as good as none, and is made again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

VARIABLE = "GDN_CUDA_CACHE"
_DIGEST = hashlib.sha256().digest_size


def folder() -> Path:
    """Where entries are: `GDN_CUDA_CACHE`, else gdn-verify/cuda in the user's cache folder."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gdn-verify" / "cuda"


def key_of(*parts: str) -> str:
    """A name for what these texts determine."""
    whole = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        whole.update(len(encoded).to_bytes(8, "little") + encoded)
    return whole.hexdigest()


def kept(key: str, make: Callable[[], bytes]) -> bytes:
    """The entry of this key; made, and kept where there is a place for it, if it is not there whole."""
    path = folder() / key
    with suppress(OSError):
        if (found := _whole(path.read_bytes())) is not None:
            return found
    made = make()
    with suppress(OSError):  # a folder that cannot be written costs time and nothing else
        _write(path, made)
    return made


def _whole(entry: bytes) -> bytes | None:
    digest, body = entry[:_DIGEST], entry[_DIGEST:]
    return body if body and hashlib.sha256(body).digest() == digest else None


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
