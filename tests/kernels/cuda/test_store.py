"""What was compiled is kept: found again, never half of it, and made anew where it is damaged."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from gdn_verify.kernels.cuda import store

BODY = b"machine code" * 5000


def never() -> bytes:
    raise AssertionError("it was made again")


def the_file() -> Path:
    (found,) = store.folder().iterdir()
    return found


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "there" / "cache"))
    return tmp_path


def test_an_entry_is_found_again():
    """By its key alone."""
    assert store.kept("a", lambda: BODY) == BODY
    assert store.kept("a", never) == BODY
    assert store.kept("b", lambda: b"other") == b"other"


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes()[:7]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"something else" * 100),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\0"),
    ],
    ids=["truncated", "cut within its hash", "empty", "foreign", "a byte changed"],
)
def test_what_is_damaged_is_made_again(damage):
    """And kept whole."""
    store.kept("a", lambda: BODY)
    damage(the_file())
    assert store.kept("a", lambda: BODY) == BODY
    assert store.kept("a", never) == BODY


def test_a_folder_that_cannot_be_written_costs_time_alone(empty):
    """The place is a file."""
    (empty / "there").write_text("a file")
    assert store.kept("a", lambda: BODY) == BODY


def test_what_fails_leaves_nothing():
    """A compiler's error is the caller's, and no entry."""
    with pytest.raises(RuntimeError, match="refused"):
        store.kept("a", _refused)
    assert not store.folder().exists() or not list(store.folder().iterdir())


def _refused() -> bytes:
    raise RuntimeError("refused")


def _process(number: int, start: float) -> bool:
    def make() -> bytes:
        return BODY + bytes([number]) * 1000  # told apart, each is whole

    while time.time() < start:
        pass
    seen = {store.kept("shared", make) for _ in range(20)}
    return all(len(entry) == len(BODY) + 1000 and len(set(entry[len(BODY) :])) == 1 for entry in seen)


def test_processes_that_make_it_at_once_find_whole_entries():
    """Four of them, twenty times each; nothing else is left in the folder."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(4) as pool:
        assert all(pool.starmap(_process, [(n, time.time() + 3) for n in range(4)]))
    assert [file.name for file in store.folder().iterdir()] == ["shared"]


def test_the_key_is_of_all_parts_apart():
    """Two texts are not one text."""
    assert store.key_of("a", "bc") != store.key_of("ab", "c")
    assert store.key_of("a") == store.key_of("a")


def test_without_a_variable_it_is_in_the_users_cache(monkeypatch):
    """XDG_CACHE_HOME, else ~/.cache."""
    monkeypatch.delenv(store.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert store.folder() == Path("/somewhere/gdn-verify/cuda")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.folder() == Path(os.path.expanduser("~/.cache/gdn-verify/cuda"))
