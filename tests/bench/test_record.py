"""Samples become medians and quartiles, runs become JSON and come back, and no time belongs to what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path as File

import bench_runs as runs
import pytest

from gdn_verify.bench.record import Record, RunFileError, Spread, Verdict, dumps, load, merge
from gdn_verify.bench.summary import panels


def test_a_spread_is_median_and_quartiles() -> None:
    """Inclusive ones, in any order of the samples; one outlier does not move the median."""
    assert Spread.of((4.0, 1.0, 2.0, 3.0, 5.0)) == Spread(3.0, 2.0, 4.0)
    assert Spread.of((1.0, 2.0)) == Spread(1.5, 1.25, 1.75)
    assert Spread.of((7.0,)) == Spread(7.0, 7.0, 7.0)
    assert Spread.of((1.0, 1.0, 1.0, 1.0, 900.0)).median == 1.0
    with pytest.raises(ValueError, match="at least one sample"):
        Spread.of(())


@pytest.mark.parametrize("verdict", [Verdict.DISAGREES, Verdict.RAISED, Verdict.REFUSED])
def test_what_is_wrong_has_no_time(verdict: Verdict) -> None:
    """Such a record cannot be made, nor read from a file."""
    with pytest.raises(ValueError, match="only what agrees is timed"):
        runs.record("wrong", 1, 5.0, verdict=verdict)


def test_rate_is_the_floor_over_the_median() -> None:
    """4 MB in 4 µs are 1 TB/s."""
    assert runs.record("right", 1, 3.0, 4.0, 9.0).rate == pytest.approx(1.0)


def test_a_file_gives_back_what_was_written(tmp_path: File) -> None:
    """Every field, samples in full."""
    file = tmp_path / "a.json"
    file.write_text(dumps([runs.run(), runs.run(2.0, runs.OTHER)]))
    assert load(file) == [runs.run(), runs.run(2.0, runs.OTHER)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "runs": [{}]}', '{"schema": 1, "runs": 3}'])
def test_a_file_of_something_else_is_refused_by_name(text: str, tmp_path: File) -> None:
    """No traceback, no half a run."""
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(RunFileError, match=r"other\.json"):
        load(file)


def test_another_schema_is_refused_with_its_number(tmp_path: File) -> None:
    """A reader of the future can tell what it needs."""
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"schema": 99, "runs": []}))
    with pytest.raises(RunFileError, match="schema 99"):
        load(file)


def test_a_run_is_ok_if_everything_was_measured_and_nobody_was_wrong() -> None:
    """Refusals and missing peers are no fault."""
    fine = tuple(record for record in runs.run().records if record.verdict not in ("disagrees", "raised"))
    assert not runs.run().ok
    assert replace(runs.run(), records=fine).ok
    assert not replace(runs.run(), records=fine, stopped=("N=1: no room",)).ok


def test_merging_keeps_every_run_once_in_order_of_time() -> None:
    """A file given twice, or a merged one merged again, adds nothing."""
    late, early = runs.run(date="2026-11-24T00:00:00+00:00"), runs.run(2.0, runs.OTHER)
    assert merge([[late], [early], [late, early]]) == [early, late]


def test_ratios_are_formed_within_a_run() -> None:
    """A machine that takes twice the time for all has the same shares, and its own `touch`, the fastest of three."""
    for panel in panels([runs.run(), runs.run(2.0, runs.OTHER)]):
        right = next(line for line in panel.lines if line.name == "right")
        assert panel.touch[runs.column(1)].contender == "touch 8192"
        assert panel.share(right.cells[runs.column(1)]) == pytest.approx(4.0 / 5.1)
        assert panel.share(right.cells[runs.column(16)]) == pytest.approx(4.0 / 5.1)


def test_touch_is_chosen_for_each_number_of_rows() -> None:
    """One cut may be best for few rows and another for many; an empty launch has no share of it."""
    records = [
        runs.record(f"touch {block}", rows, time)
        for rows, times in {1: (3.0, 2.0), 16: (30.0, 40.0)}.items()
        for block, time in zip((16384, 4096), times, strict=True)
    ]
    null = runs.record("null", 1, 1.0)
    (panel,) = panels([replace(runs.run(), records=(*records, null))])
    assert {column.rows: touch.contender for column, touch in panel.touch.items()} == {
        1: "touch 4096",
        16: "touch 16384",
    }
    assert [line.name for line in panel.lines] == ["null", "touch"]
    assert panel.share(null) is None


def test_problems_are_not_mixed() -> None:
    """Another geometry or dtype of the state is another panel."""
    narrow: list[Record] = [replace(r, state="bfloat16") for r in runs.run().records]
    sharded = [replace(r, HV=16, H=8) for r in runs.run().records]
    mixed = replace(runs.run(), records=(*runs.run().records, *narrow, *sharded))
    assert [panel.problem for panel in panels([mixed])] == [
        (8, 16, 128, 128, 1, "float32"),
        (16, 32, 128, 128, 1, "bfloat16"),
        (16, 32, 128, 128, 1, "float32"),
    ]
