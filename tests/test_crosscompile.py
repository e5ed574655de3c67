"""Kernels compiled for chips that are not here: the command, its exit status, and the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import toy_paths
from rich.console import Console
from typer.testing import CliRunner

from gdn_verify import cli
from gdn_verify.crosscompile import NotCaptured, Report, Row, from_json
from gdn_verify.emulator.crosscompile.resources import Compiled, Resources
from gdn_verify.emulator.crosscompile.targets import CHIPS
from gdn_verify.report.crosscompile import show

pytest.importorskip("triton")

MODEST = Resources(registers=64, spill_bytes=0, scratch_bytes=0, shared_bytes=1024, threads=256)
GOOD = Row("path", "decode", "kernel", "N=8", "sm_90", True, Compiled(MODEST, seconds=0.5))
OVER = replace(GOOD, chip="gfx1201", compiled=Compiled(replace(MODEST, shared_bytes=70000)))
SPILLS = replace(GOOD, compiled=Compiled(replace(MODEST, spill_bytes=8)))
BROKEN = replace(GOOD, compiled=Compiled(None, "LLVM ERROR: no"))
OPTIONAL = NotCaptured("other", "sm_90", "is_cuda", required=False)
Toys = Callable[..., tuple[int, str, dict[str, Any]]]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Toys:
    """The command with these words, where the toy paths are installed: exit status, output, JSON."""
    folder = tmp_path_factory.mktemp("site")
    env = {**os.environ, "PYTHONPATH": toy_paths.install(folder)}

    def run(*words: str) -> tuple[int, str, dict[str, Any]]:
        file = folder / "report.json"
        line = [sys.executable, "-m", "gdn_verify.cli", "crosscompile", *words, "--json", str(file)]
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, done.stdout, json.loads(file.read_text(encoding="utf-8"))

    return run


@pytest.mark.slow
def test_a_healthy_path_passes(toys: Toys) -> None:
    """On a chip of each vendor, at production shapes; equal launches are compiled once."""
    status, text, body = toys("--paths", "toy-healthy", "--targets", "gfx1201,sm_90")
    assert (status, body["ok"], body["absent"]) == (0, True, [])
    assert sorted(row["chip"] for row in body["rows"]) == ["gfx1201", "sm_90"]
    for row in body["rows"]:
        assert (row["kernel"], row["own"], row["faults"]) == ("add", False, [])
        assert row["launch"] == "decode H=16 HV=32 K=128 V=128 num_spec=0"
        assert row["compiled"]["resources"]["registers"] > 0
    assert "every configuration compiles and fits" in text


def test_every_trouble_is_told_and_ends_nothing_before_it(toys: Toys) -> None:
    """One run over paths with one trouble each, the last of which kills its worker."""
    names = ["second-bad", "crowded", "ours", "insists", "lies", "dies"]
    wanted = [f"toy-{name}" for name in names]
    status, text, body = toys("--paths", ",".join(["fallback", *wanted]), "--targets", "sm_120")
    assert (status, body["ok"]) == (1, False)
    faults = {(row["subject"], row["configuration"].split()[0]): row["faults"] for row in body["rows"]}
    assert faults["toy-second-bad", "N=4096"] == []
    assert faults["toy-second-bad", "N=32768"] == ["131072 bytes of shared memory a block, and sm_120 has 101376"]
    assert (faults["toy-crowded", "N=4096"], len(faults["toy-ours", "N=4096"])) == ([], 2)
    absent = {(each["subject"], each["reason"]) for each in body["absent"]}
    shapes = [f"decode H={H} HV={2 * H} K=128 V=128 num_spec=0" for H in (16, 4)]
    reasons = {("toy-insists", f"{shape}: AssertionError: q must be on a CUDA device") for shape in shapes}
    reasons |= {
        ("fallback", "the path declares no Triton kernel"),
        ("toy-lies", "gathered: declared, and not launched"),
    }
    assert reasons <= absent
    assert [reason for subject, reason in absent if subject == "the rest"] == ["the worker died: exit status 7"]
    assert "1 more configurations" not in text
    assert "not captured: toy-lies on sm_120: gathered: declared, and not launched" in text


@pytest.mark.parametrize(
    ("words", "wrong", "known"),
    [(("--targets", "gfx90a"), "gfx90a", CHIPS), (("--paths", "toy"), "toy", ("kernels", "fallback", "fla-chunk"))],
)
def test_an_unknown_name_comes_with_the_known_ones(words: tuple[str, ...], wrong: str, known: tuple[str, ...]) -> None:
    """Exit status 2, and one line with what there is."""
    done = CliRunner().invoke(cli.app, ["crosscompile", *words])
    assert done.exit_code == 2
    assert all(word in done.stderr for word in (repr(wrong), *known))


def test_the_report_survives_json() -> None:
    """Resources, errors, reasons; verdicts are derived again, and another schema is refused."""
    report = Report([GOOD, OVER, SPILLS, BROKEN], [OPTIONAL])
    body = json.loads(json.dumps(report.as_json()))
    assert from_json(body) == report
    assert [bool(row["faults"]) for row in body["rows"]] == [False, True, True, True]
    with pytest.raises(ValueError, match="schema=2"):
        from_json({**body, "schema": 2})


@pytest.mark.parametrize(
    ("rows", "absent", "ok"),
    [
        ([GOOD], [], True),
        ([GOOD], [OPTIONAL], True),
        ([GOOD], [replace(OPTIONAL, required=True)], False),
        ([], [], False),
        ([], [OPTIONAL], False),
        ([GOOD, OVER], [], False),
        ([GOOD, BROKEN], [], False),
        ([GOOD, SPILLS], [], False),
        ([GOOD, replace(SPILLS, own=False)], [], True),
        ([GOOD, replace(OVER, own=False)], [], False),
        ([GOOD, replace(BROKEN, own=False)], [], False),
    ],
)
def test_what_makes_a_run_red(rows: list[Row], absent: list[NotCaptured], ok: bool) -> None:
    """Nothing compiled, something required not captured, an error, a limit; spills of this project's kernels alone."""
    assert Report(rows, absent).ok is ok


def test_the_table_groups_configurations_and_shows_the_most(capsys: pytest.CaptureFixture[str]) -> None:
    """A line a kernel and chip; of several faults one in full, and how many more."""
    worse = replace(OVER, configuration="N=16", compiled=Compiled(replace(MODEST, shared_bytes=90000, registers=80)))
    show(
        Report([GOOD, OVER, worse, replace(OVER, own=False, compiled=Compiled(MODEST))], [OPTIONAL]), Console(width=160)
    )
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if "gfx1201" in line)
    assert line.split()[:5] == ["path", "kernel", "gfx1201", "3", "2"]
    assert ("80" in line.split(), "90000" in line.split(), "65536" in line.split()) == (True, True, True)
    assert any("70000 bytes of shared memory" in line and "1 more configurations" in line for line in lines)
    assert "not captured: other on sm_90: is_cuda" in lines
