"""What a reader sees of a run: medians, spreads and shares for what is right, reasons for the rest."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path as File

import bench_runs as runs
import pytest
from rich.console import Console

from gdn_verify.bench.plot import PlotError, draw
from gdn_verify.bench.record import Run
from gdn_verify.bench.table import show


def shown(*some: Run) -> str:
    """The report as text."""
    out = io.StringIO()
    show(some, Console(file=out, width=220, color_system=None))
    return out.getvalue()


def line(text: str, *words: str) -> str:
    """The one line that holds these words."""
    (found,) = (line for line in text.splitlines() if all(word in line for word in words))
    return found


def test_a_right_contender_has_median_spread_and_share() -> None:
    """And launches and host time; `touch` is one line, the fastest of its cuts."""
    text = shown(runs.run())
    assert re.search(r"right 1 +unpack…norm +1 +9 +5\.10 ±0\.20 +81\.60 ±3\.20$", line(text, "right"))
    assert "touch 8192" not in text
    assert line(text, " touch ", "4.00 ±0.02")
    assert "78% of touch, 0.78 TB/s" in text
    assert re.search(r"bytes at least +4\.00 MB +64\.00 MB", text)


def test_a_wrong_contender_has_a_word_in_place_of_a_time() -> None:
    """And below the table where it was wrong, by how much, and by what limit."""
    text = shown(runs.run())
    assert re.search(r"wrong 1 +unpack…norm +disagrees +disagrees$", line(text, "wrong 1 "))
    assert "disagrees: wrong, N=16, float32 state: out[0, 0, 3], 321 budgets off (limit 7)" in text
    assert "raised: lame, N=1, float32 state: ValueError: no such card" in text


def test_who_takes_no_part_is_said_once() -> None:
    """Refusals for all numbers of rows together, and what is missing with the remedy."""
    text = shown(runs.run())
    assert text.count("choosy") == 1
    assert "refused: choosy, float32 state: K=128 is too wide" in text
    assert text.count("missing: absent: not installed (pip install absent)") == 1


def test_machines_and_days_stay_with_their_runs() -> None:
    """One table; each run's rows begin with its machine and date, and its versions stand below."""
    text = shown(runs.run(), runs.run(2.0, runs.OTHER, "2026-11-24T09:30:00+00:00"))
    assert text.count("µs a layer by rows") == 1
    assert line(text, "bytes at least", "Card A", "2026-11-23 10:00")
    assert line(text, "bytes at least", "Card B", "2026-11-24 09:30")
    assert line(text, "Card B (gfx942), 2026-11-24T09:30:00+00:00", "triton 3.6.0")
    assert text.count("78% of touch") == 4


def test_a_dry_run_says_that_it_means_nothing() -> None:
    """And a real one does not."""
    assert "mean nothing" in shown(replace(runs.run(), means_something=False))
    assert "mean nothing" not in shown(runs.run())


def test_a_run_that_measured_nothing_is_shown() -> None:
    """Its machine, and what stopped it."""
    nothing = replace(runs.run(), records=(), stopped=("N=1, float32 state: TooLargeError: no room",))
    text = shown(nothing)
    assert "Card A" in text
    assert "not measured: N=1, float32 state: TooLargeError: no room" in text


def test_a_picture_is_drawn(tmp_path: File) -> None:
    """One file for all runs."""
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    draw([runs.run(), runs.run(2.0, runs.OTHER)], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_nothing_is_refused(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without times there is nothing to draw; without matplotlib the message has the line that installs it."""
    monkeypatch.setattr("gdn_verify.bench.plot.find_spec", lambda name: None)
    with pytest.raises(PlotError, match=r"pip install 'gdn-verify\[bench\]'"):
        draw([runs.run()], tmp_path / "a.png")
    monkeypatch.setattr("gdn_verify.bench.plot.find_spec", lambda name: object())
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    with pytest.raises(PlotError, match="no contender has a time"):
        draw([replace(runs.run(), records=())], tmp_path / "a.png")
