"""A prefill in the same flow as a decode: what is wrong gets no time, and a table says what was timed and how."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path as File

import bench_runs
import prefilled
import pytest
from rich.console import Console

pytest.importorskip("triton", reason="the yardsticks are Triton kernels")

from gdn_verify.bench.clock import Captured, Launches
from gdn_verify.bench.contender import Contender, Setting
from gdn_verify.bench.measure import Bench, Outcome, measure
from gdn_verify.bench.record import Run, Verdict, dumps, load
from gdn_verify.bench.table import show
from gdn_verify.bench.task import prefill_task
from gdn_verify.bench.yardsticks import Yardstick


class Instant:
    """Every replay takes a microsecond; the first stack is captured by a graph, the next ones are queued."""

    name, means_something = "graph", True

    def __init__(self) -> None:
        self.stacks: list[int] = []

    def capture(self, launches: Launches) -> Captured:
        for launch in launches:
            launch()
        self.stacks.append(len(launches))
        how = "graph" if len(self.stacks) == 1 else "queue: no graph: RuntimeError: synchronises"
        return Captured(lambda: None, len(launches), 1.0, (), how)

    def burst(self, captured: Captured, count: int) -> list[float]:
        return [1.0] * count


def measured(settings: list[Setting], *contenders: Contender, cache_bytes: int = 0) -> tuple[Outcome, Instant]:
    """On the processor, with one yardstick that does nothing."""
    task = replace(prefill_task(), yardsticks=lambda: [Yardstick("touch 1", lambda inputs: lambda: None)])
    clock = Instant()
    bench = Bench(clock, "cpu", cache_bytes, lambda: 1 << 30, layers=2, rounds=1, burst=2, task=task)
    return measure(contenders, settings, bench, lambda name: None), clock


def test_a_wrong_contender_gets_no_time() -> None:
    """Its record says where it is wrong; those beside it are timed, and a refusal has its words."""
    refusing = replace(prefilled.fallback(), name="refusing", refuses=lambda setting: f"not {setting.label}")
    wrong = prefilled.misfed(g=lambda inputs: inputs.g * 0)
    outcome, _ = measured([prefilled.setting()], prefilled.fallback(), wrong, refusing, prefilled.dense())
    found = {record.contender: record for record in outcome.records}
    assert found["misfed"].verdict is Verdict.DISAGREES
    assert found["misfed"].device_us == ()
    assert found["misfed"].ratio > found["misfed"].limit
    assert (found["refusing"].verdict, found["refusing"].words) == (Verdict.REFUSED, "not 5+1+9")
    assert found["fallback"].device_us == found["dense"].device_us == (1.0, 1.0)
    assert not outcome.stopped


def test_a_record_tells_the_rows_and_the_clock() -> None:
    """S is 0, rows have a label, and what was queued says why."""
    outcome, _ = measured([prefilled.setting(fresh=True)], prefilled.fallback())
    touch, timed = outcome.records
    assert (timed.S, timed.rows, timed.tokens, timed.lengths, timed.fresh) == (0, 3, 15, "5+1+9", True)
    assert timed.problem == (2, 4, 8, 16, 0, "float32, fresh")
    assert touch.clock == "graph"
    assert timed.clock.startswith("queue: ")
    assert touch.floor_bytes == timed.floor_bytes > 0


def test_layers_are_cold_by_all_that_they_move() -> None:
    """Four times the caches' bytes pass before a layer comes again."""
    long = prefilled.setting(lengths=(300,))
    moved = measured([long], prefilled.fallback())[0].records[0].floor_bytes
    assert measured([long], prefilled.fallback(), cache_bytes=moved)[1].stacks == [4, 4]


def run(*settings: Setting) -> Run:
    """Measured, as a run."""
    outcome, _ = measured(list(settings), prefilled.fallback())
    records = tuple(outcome.records)
    return replace(bench_runs.run(), records=records, missing=())


def test_a_table_has_a_column_for_each_launch(tmp_path: File) -> None:
    """By tokens, with the clock in its cells, what was queued below, and it survives its file."""
    made = run(prefilled.setting(lengths=(4, 4)), prefilled.setting())
    file = tmp_path / "a.json"
    file.write_text(dumps([made]))
    assert load(file) == [made]
    out = io.StringIO()
    show([made, bench_runs.run()], Console(file=out, width=240, color_system=None))
    text = out.getvalue()
    (head,) = (line for line in text.splitlines() if "2x4" in line and "5+1+9" in line and "launches" in line)
    assert head.index("2x4") < head.index("5+1+9")
    assert "prefill, µs a layer by rows x tokens: H 2, HV 4, K 8, V 16" in text
    assert "µs a layer by rows: H 16" in text
    assert "TB/s, queue" in text
    assert "timed otherwise: fallback, 2x4: queue: no graph: RuntimeError: synchronises" in text


def test_what_was_judged_in_part_is_told() -> None:
    """A reader of a time can see how many heads stand behind it."""
    made = run(prefilled.setting())
    partly = replace(made, records=tuple(replace(record, judged_heads=2) for record in made.records))
    out = io.StringIO()
    show([partly], Console(file=out, width=200, color_system=None))
    assert "judged on 2 of 4 value heads: fallback, 5+1+9" in out.getvalue()


def test_files_of_the_first_schema_are_read(tmp_path: File) -> None:
    """Their records lack what a prefill added."""
    body = json.loads(dumps([bench_runs.run()]))
    body["schema"] = 1
    for record in body["runs"][0]["records"]:
        for name in ("tokens", "lengths", "fresh", "judged_heads", "clock"):
            del record[name]
    (tmp_path / "old.json").write_text(json.dumps(body))
    assert load(tmp_path / "old.json") == [bench_runs.run()]
