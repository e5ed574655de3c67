"""What is drawn once is found again by other processes, and nothing that is broken or stale is believed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gdn_verify.cases import kept as module
from gdn_verify.cases.contract import Stage
from gdn_verify.cases.kept import folder, kept
from gdn_verify.cases.reach import probes


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return folder()


def test_it_is_made_once() -> None:
    """The second time it is read."""
    made = [kept("numbers", lambda: (1, 2)), kept("numbers", lambda: (3, 4))]
    assert made == [(1, 2), (1, 2)]
    assert kept("others", lambda: (3, 4)) == (3, 4)


def test_another_state_of_the_sources_is_another_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy that has changed draws other cases."""
    kept("numbers", lambda: 1)
    monkeypatch.setattr(module, "_state", lambda: "changed")
    assert kept("numbers", lambda: 2) == 2


@pytest.mark.parametrize("content", [b"", b"\x80\x05cno_such_module\nThing\n."])
def test_a_broken_file_is_made_anew(place: Path, content: bytes) -> None:
    """As one that was cut short, or that holds what is no more."""
    kept("numbers", lambda: 1)
    (file,) = place.iterdir()
    file.write_bytes(content)
    assert kept("numbers", lambda: 2) == 2
    assert kept("numbers", lambda: 3) == 2


def test_where_nothing_can_be_kept_it_is_made(place: Path) -> None:
    """A file stands where the folder should."""
    place.parent.mkdir(exist_ok=True)
    place.write_text("in the way")
    assert [kept("numbers", lambda: 1), kept("numbers", lambda: 2)] == [1, 2]


def test_only_its_owner_may_change_it(place: Path) -> None:
    """A pickle can run anything."""
    kept("numbers", lambda: 1)
    (file,) = place.iterdir()
    assert (place.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


def test_probes_are_the_same_in_another_process(place: Path) -> None:
    """Which reads them instead of drawing them."""
    script = """
from gdn_verify.cases import reach
from gdn_verify.cases.contract import Stage
reach._drawn = None  # drawing raises
print(reach.probes(Stage.NORM))
"""
    probes.cache_clear()
    drawn = probes(Stage.NORM)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{drawn}\n"
    probes.cache_clear()
    assert probes(Stage.NORM) == drawn
