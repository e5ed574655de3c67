"""The command line: exit statuses, the report as JSON, and a printed case that runs again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path as File
from typing import Any

import fake_paths
import pytest
from typer.testing import CliRunner

from gdn_verify import cli
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants import PLANTED
from gdn_verify.paths import find, registered
from gdn_verify.probe import Probe
from gdn_verify.profiles import PROFILES
from gdn_verify.words import hosts_of

GREEN, RED, USAGE = 0, 1, 2
KEYS = (
    "path host version kind check cases agrees disagrees refused missing crashed vacuous known reach worst_noise_ratio"
    " worst_drift seconds"
)
Result = Any
RunsCommand = Callable[..., Result]
QUICK = ("--profile", "quick", "--kinds", "decode", "--workers", "1")
CASES = PROFILES["quick"].short
"""Drawn for a path and a kind; saved cases that the path takes come on top."""


@pytest.fixture
def command() -> RunsCommand:
    """Run the command line in this process; nothing heavy happens here, since paths run in workers."""
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own, in which the fakes are installed."""
    env = {**os.environ, "PYTHONPATH": fake_paths.install(tmp_path_factory.mktemp("site"))}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "gdn_verify.cli", *map(str, words)]
        return subprocess.run(line, env=env, capture_output=True, text=True, check=False)

    return run


def _available(name: str, host: str) -> None:
    if missing := find(name).missing(host):
        pytest.skip(str(missing))


def _rows(body: dict[str, Any], host: str) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in body["rows"] if row["host"] == host}


def test_the_report_as_json(command: RunsCommand, tmp_path: File) -> None:
    """A file that other tools read: the schema's number, and rows with exactly the keys that are promised."""
    _available("transformers-recurrent", "cpu")
    file = tmp_path / "report.json"
    done = command("gate", *QUICK, "--paths", "transformers-recurrent", "--json", file)
    body = json.loads(file.read_text(encoding="utf-8"))
    assert body["schema"] == 1
    assert all(set(row) == set(KEYS.split()) for row in body["rows"])
    values = _rows(body, "cpu")["values"]
    assert (values["cases"], values["agrees"]) == (CASES, CASES)
    assert (done.exit_code == GREEN) == (not body["failures"])


def test_a_planted_defect_is_printed_and_runs_again(command: RunsCommand, tmp_path: File) -> None:
    """The gate goes red with a case; saved and checked without the defect, the same case agrees."""
    _available("transformers-recurrent", "cpu")
    report, case = tmp_path / "report.json", tmp_path / "case.json"
    where = ("--paths", "transformers-recurrent", "--hosts", "cpu")
    red = command("gate", *QUICK, *where, "--plant", "dropped_decay", "--json", report)
    assert red.exit_code == RED
    assert "gdn-verify check CASE.json --path transformers-recurrent --host cpu" in red.stdout
    failures = json.loads(report.read_text(encoding="utf-8"))["failures"]
    case.write_text(next(f["case"] for f in failures if f["check"] == "values"), encoding="utf-8")
    green = command("check", case, "--path", "transformers-recurrent")
    assert (green.exit_code, "the gate is green" in green.stdout) == (GREEN, True)


def test_a_crash_exits_with_one(fakes: RunsCommand, tmp_path: File) -> None:
    """A case that kills its worker is told, with the signal, and the command itself lives."""
    case = tmp_path / "case.json"
    case.write_text(fake_paths.case_files()[1], encoding="utf-8")
    done = fakes("check", case, "--path", "fake-segfault-16")
    assert done.returncode == RED
    assert "SIGSEGV" in done.stdout


def test_a_refusal_says_why(command: RunsCommand, tmp_path: File) -> None:
    """A case that the path does not take is no agreement, and the reason is shown."""
    _available("transformers-recurrent", "cpu")
    case = tmp_path / "case.json"
    case.write_text(fake_paths.case_files()[0].replace('"dtypes": {}', '"dtypes": {"state": "float16"}'))
    done = command("check", case, "--path", "transformers-recurrent")
    assert done.exit_code == RED
    assert "refused: transformers-recurrent on cpu, decode: dtypes.state=float16" in done.stdout


def test_a_case_that_nothing_can_run_lists_every_reason(fakes: RunsCommand, tmp_path: File) -> None:
    """The remedy may be that of the first host, not of the last one tried."""
    case = tmp_path / "case.json"
    case.write_text(fake_paths.case_files()[0], encoding="utf-8")
    done = fakes("check", case, "--path", "fake-missing-everywhere")
    assert done.returncode == RED
    for host in ("cpu", "cuda", "rocm"):
        assert f"missing: fake-missing-everywhere on {host}: " in done.stdout


def test_paths_that_run_beside_others_that_do_not(fakes: RunsCommand, tmp_path: File) -> None:
    """One run: a plug-in's path agrees, one does not load, one is missing; the whole is red and says all three."""
    file = tmp_path / "report.json"
    names = "fake-healthy,fake-broken-import,fake-missing"
    done = fakes("gate", *QUICK, "--paths", names, "--json", file)
    assert done.returncode == RED
    assert "missing: fake-missing on cpu: libfake is not installed (pip install 'libfake[gpu]')" in done.stdout
    assert "undefined symbol: gdn_forward" in done.stdout
    rows = {r["path"]: r for r in json.loads(file.read_text())["rows"] if r["check"] == "values"}
    healthy, missing = rows["fake-healthy"], rows["fake-missing"]
    assert healthy["agrees"] == healthy["cases"] >= CASES
    assert missing["missing"] == missing["cases"] >= CASES


def test_a_required_host_without_a_card_is_red(command: RunsCommand, tmp_path: File) -> None:
    """A runner that lost its card does not stay green."""
    if HOSTS["cuda"].missing() is None:
        pytest.skip("this machine has a card")
    file = tmp_path / "report.json"
    done = command("gate", *QUICK, "--paths", "fallback", "--hosts", "cuda", "--require", "cuda", "--json", file)
    assert done.exit_code == RED
    assert "required: " in done.stdout
    values = _rows(json.loads(file.read_text()), "cuda")["values"]
    assert values["missing"] == values["cases"] >= CASES


@pytest.mark.parametrize(
    ("words", "wrong", "known"),
    [
        (("gate", "--paths", "falback"), "falback", registered()),
        (("gate", "--hosts", "abacus"), "abacus", HOSTS),
        (("gate", "--kinds", "refill"), "refill", ("decode", "prefill", "spec", "mixed")),
        (("gate", "--profile", "slow"), "slow", PROFILES),
        (("gate", "--plant", "bug"), "bug", PLANTED),
    ],
)
def test_an_unknown_name_comes_with_the_known_ones(
    command: RunsCommand, words: tuple[str, ...], wrong: str, known: dict[str, object]
) -> None:
    """Exit status 2, and one line with what there is."""
    done = command(*words)
    assert done.exit_code == USAGE
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in (repr(wrong), *known))


def test_a_selection_without_jobs_is_refused(command: RunsCommand) -> None:
    """No path of these runs there: that is a mistake in the command, not a green gate."""
    done = command("gate", "--paths", "transformers-recurrent", "--kinds", "spec")
    assert done.exit_code == USAGE
    assert "gdn-verify paths" in done.stderr


@pytest.mark.parametrize("text", ["", "{", '{"schema": 99}', "[red]", '{"schema": 1, "case": {"slots": [/x]}}'])
def test_a_corrupt_case_file_is_refused_in_one_line(command: RunsCommand, tmp_path: File, text: str) -> None:
    """Exit status 2 and the file's name, no traceback; what looks like markup is text."""
    file = tmp_path / "case[bold].json"
    file.write_text(text, encoding="utf-8")
    done = command("check", file, "--path", "fallback")
    assert done.exit_code == USAGE
    assert len(done.stderr.splitlines()) == 1
    assert str(file) in done.stderr


def test_a_file_that_is_not_there_is_refused(command: RunsCommand, tmp_path: File) -> None:
    """As any other file that cannot be used."""
    done = command("check", tmp_path / "none.json", "--path", "fallback")
    assert done.exit_code == USAGE
    assert "none.json" in done.stderr


def test_a_host_that_the_path_does_not_run_on_is_refused(command: RunsCommand, tmp_path: File) -> None:
    """With the hosts that it has."""
    case = tmp_path / "case.json"
    case.write_text(fake_paths.case_files()[0], encoding="utf-8")
    done = command("check", case, "--path", "fallback", "--host", "interpreter")
    assert done.exit_code == USAGE
    assert "known are cpu, cuda, rocm" in done.stderr


@pytest.mark.parametrize("words", [("paths",), ("doctor",)])
def test_what_cannot_run_comes_with_the_line_that_installs_it(
    command: RunsCommand, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The extra in brackets survives, on one line: it is meant to be copied."""
    reason = "triton is not installed, and this sentence is long enough to be wrapped (pip install 'gdn-verify[fla]')"
    monkeypatch.setattr(cli, "probe", lambda host, path="": Probe(host == "cpu", "1.0" if host == "cpu" else reason))
    done = command(*words)
    assert done.exit_code == GREEN
    assert f"missing: {reason}" in done.stdout
    assert all(name in done.stdout for name in registered())


def test_a_doctor_who_finds_nothing_to_run_is_red(command: RunsCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be verified here."""
    monkeypatch.setattr(cli, "probe", lambda host, path="": Probe(False, "no"))
    assert command("doctor").exit_code == RED


def test_the_doctor_on_this_machine(fakes: RunsCommand) -> None:
    """Hosts, versions, reasons and remedies, those of other packages' paths too."""
    done = fakes("doctor")
    assert done.returncode == GREEN
    assert "libfake is not installed (pip install 'libfake[gpu]')" in done.stdout
    assert "the worker died: exit status 7" in done.stdout
    assert "does not import: ImportError: libfake.so: undefined symbol: gdn_forward" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines() if line.split()[0] == "fake-healthy"] == ["1.0"]


def test_laws_alone_find_a_planted_defect(command: RunsCommand) -> None:
    """No oracle compares a value; the failure names the law."""
    alone = ("gate", *QUICK, "--paths", "fallback", "--hosts", "cpu", "--only-laws", "--laws", "sharding,scale")
    assert command(*alone).exit_code == GREEN
    found = command(*alone, "--plant", "wrong_head_map")
    assert found.exit_code == RED
    assert "laws/sharding: " in found.output


def test_an_unknown_law_is_refused(command: RunsCommand) -> None:
    """With the names of those that exist."""
    found = command("gate", "--laws", "splitting")
    assert found.exit_code == USAGE
    assert "no law is called 'splitting'" in " ".join(found.output.split())


def test_tables_are_judged_and_a_defect_of_theirs_is_planted_in_them_alone(
    command: RunsCommand, tmp_path: File
) -> None:
    """Green, then red with a case that runs again; a path of a layer has no such defect, and a builder no laws."""
    alone = ("gate", *QUICK, "--kinds", "trajectory")
    assert command(*alone, "--paths", "tables-buffers").exit_code == GREEN
    report = tmp_path / "report.json"
    found = command(*alone, "--paths", "tables-buffers,fallback", "--plant", "stale_tail", "--json", report)
    assert found.exit_code == RED
    assert {row["path"] for row in json.loads(report.read_text())["rows"]} == {"tables-buffers"}
    case = tmp_path / "case.json"
    case.write_text(json.loads(report.read_text())["failures"][0]["case"], encoding="utf-8")
    assert command("check", case, "--path", "tables-buffers").exit_code == GREEN
    refused = command(*alone, "--paths", "fallback", "--plant", "stale_tail")
    assert refused.exit_code == USAGE
    assert "no path where stale_tail can be planted" in refused.output
    refused = command("check", case, "--path", "tables", "--laws", "split")
    assert refused.exit_code == USAGE
    assert "tables builds tables" in refused.output


def test_chips_that_are_emulated_run_where_they_are_named_alone() -> None:
    """Executing their machine code takes minutes, which nobody has asked for."""
    assert not {"gfx942", "gfx950"} & {*hosts_of("")}
    assert {"cpu", "interpreter", "emulated-cuda", "cuda", "rocm"} == {*hosts_of("")}
    assert hosts_of("gfx942") == ["gfx942"]
