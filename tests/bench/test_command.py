"""`gdn-verify bench`: what it needs is said in one line, a dry run goes all the way, runs are merged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path as File

import bench_runs as runs
import benched
import pytest
import torch
from typer.testing import CliRunner

from gdn_verify import cli
from gdn_verify.bench import run as runner
from gdn_verify.bench.contender import Missing
from gdn_verify.bench.record import dumps, load

OK, USAGE = 0, 2
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command() -> Command:
    """The command line in a process of its own: a dry run binds Triton to the interpreter."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        line = [sys.executable, "-m", "gdn_verify.cli", "bench", *map(str, words)]
        return subprocess.run(line, env=clean, capture_output=True, text=True, check=False, timeout=300)

    return run


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_one_line_says_so(command: Command) -> None:
    """And what to do instead; the status is that of a command that cannot run."""
    done = command("decode")
    assert done.returncode == USAGE
    assert len(done.stderr.strip().splitlines()) == 1
    assert "no CUDA or ROCm device" in done.stderr
    assert "--dry-run" in done.stderr


@pytest.mark.parametrize(
    ("spec", "launches"),
    [
        (1, {"fused-decode": 1.0, "fused-decode-o": 1.0, "two-launch-decode": 2.0, "delta-update": 1.0}),
        pytest.param(3, {"fused-spec": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_a_dry_run_goes_all_the_way(command: Command, tmp_path: File, spec: int, launches: dict[str, float]) -> None:
    """Judge, yardsticks, our kernels, table, JSON; every time it prints is declared worthless."""
    pytest.importorskip("triton", reason="the interpreter is Triton's")
    file = tmp_path / "dry.json"
    done = command(
        "decode", "--dry-run", "--only", "fused,two-launch,delta-update", "--spec", spec, "--rows", "2",
        "--states", "bfloat16", "--rounds", "1", "--no-opinion", "--json", file,
    )  # fmt: skip
    assert done.returncode == OK, done.stdout + done.stderr
    assert "mean nothing" in done.stdout
    (run,) = load(file)
    assert not run.means_something
    yardsticks = [record for record in run.records if record.verdict == "yardstick"]
    assert [record.contender for record in yardsticks] == ["null", "touch 16384", "touch 8192", "touch 4096"]
    ours = [record for record in run.records if record.verdict == "agrees"]
    assert {record.contender: record.launches for record in ours} == launches
    for record in ours:
        assert (record.S, record.rows, record.state) == (spec, 2, "bfloat16")
        assert 0.0 < record.ratio < 2.0


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_dry_run_of_a_prefill_goes_all_the_way(command: Command, tmp_path: File, fresh: bool) -> None:
    """Ours, and FLA's where it is installed, on rows of other lengths."""
    pytest.importorskip("triton", reason="the interpreter is Triton's")
    file = tmp_path / "dry.json"
    words = ("--dry-run", "--rows", "3+70", "--rounds", "1", "--no-opinion", "--json", file)
    done = command("prefill", *words, *(("--fresh",) if fresh else ("--only", "chunk-delta")))
    assert done.returncode == OK, done.stdout + done.stderr
    assert "mean nothing" in done.stdout
    assert "float32 state" in done.stderr
    assert ": judging chunk-delta" in done.stderr
    (run,) = load(file)
    yardsticks = [record for record in run.records if record.verdict == "yardstick"]
    assert [record.contender for record in yardsticks] == ["null", "touch 8192", "touch 4096", "touch 2048"]
    right = {record.contender: record for record in run.records if record.verdict == "agrees"}
    assert right.keys() <= {"chunk-delta", "fla-chunk", "vllm-chunk", "aiter-chunk-opt-vk"}
    assert "chunk-delta" in right
    for record in right.values():
        assert (record.lengths, record.tokens, record.fresh, record.S) == ("3+70", 73, fresh, 0)
        assert 0.0 < record.ratio < 2.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm card")
def test_a_real_prefill_is_timed(command: Command, tmp_path: File) -> None:
    """On two launches, by a graph, slower than a pass over its tensors."""
    file = tmp_path / "real.json"
    done = command("prefill", "--only", "chunk-delta", "--rows", "1x512,17+64", "--no-opinion", "--json", file)
    assert done.returncode == OK, done.stdout + done.stderr
    (run,) = load(file)
    ours = [record for record in run.records if record.contender == "chunk-delta"]
    assert {record.lengths for record in ours} == {"1x512", "17+64"}
    for record in ours:
        touch = min(r.device.median for r in run.records if r.column == record.column and r.contender[:5] == "touch")
        assert record.clock == "graph"
        assert record.device.median > touch


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm card")
def test_a_real_run_times_cold_layers(command: Command, tmp_path: File) -> None:
    """Counted launches, slower than nothing, and a stack of several times the caches."""
    file = tmp_path / "real.json"
    done = command("decode", "--only", "fused-decode", "--rows", "4", "--no-opinion", "--json", file)
    assert done.returncode == OK, done.stdout + done.stderr
    (run,) = load(file)
    assert run.means_something
    for record in run.records:
        assert record.launches == 1.0  # neither fused-decode nor fused-decode-o needs another
        assert len(record.device_us) == 21
        slot = 32 * 128 * 128 * (4 if record.state == "float32" else 2)
        assert record.layers * 4 * slot >= 4 * run.machine.cache_bytes > 0
    times = {(record.contender, record.state): record.device.median for record in run.records}
    assert all(times["null", state] < times["fused-decode", state] for state in ("float32", "bfloat16"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--geometry", "qwen9"), "qwen3-next"),
        (("--rows", "many"), "many"),
        (("--rows", "0"), "rows=0"),
        (("--states", "float8"), "float8"),
    ],
)
def test_a_word_that_is_not_understood_is_refused(words: tuple[str, str], said: str) -> None:
    """With what was given, or with what there is, before anything is looked for."""
    done = CliRunner().invoke(cli.app, ["bench", "decode", *words])
    assert done.exit_code == USAGE
    assert said in done.stderr


def test_leaving_nobody_to_bench_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names that there are."""
    absent = Missing("absent", "not installed")
    monkeypatch.setattr(runner, "gather", lambda settings, every: [benched.fallback(), absent])
    assert runner.choose([], ["fall", "abs"], False)[1] is absent
    with pytest.raises(runner.NobodyError, match="fallback, absent: not installed"):
        runner.choose([], ["abs"], False)


def test_runs_are_merged_into_one_table_and_one_file(tmp_path: File) -> None:
    """Files of two machines; the merged file holds both runs."""
    runs_of = {"a.json": runs.run(), "b.json": runs.run(2.0, runs.OTHER)}
    for name, run in runs_of.items():
        (tmp_path / name).write_text(dumps([run]))
    words = ["bench", "merge", *(str(tmp_path / name) for name in runs_of), "--json", str(tmp_path / "c.json")]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == OK, done.output
    assert "Card A" in done.output
    assert "Card B" in done.output
    assert load(tmp_path / "c.json") == list(runs_of.values())


def test_a_file_without_runs_is_refused(tmp_path: File) -> None:
    """By its name."""
    (tmp_path / "other.json").write_text(json.dumps({"rows": []}))
    done = CliRunner().invoke(cli.app, ["bench", "merge", str(tmp_path / "other.json")])
    assert done.exit_code == USAGE
    assert "other.json" in done.output
