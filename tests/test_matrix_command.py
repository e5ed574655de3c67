"""`gdn-verify matrix`: what is planted stands in its cell and in no other, what is missing is said, runs are merged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path as File

import fake_paths
import pytest
from typer.testing import CliRunner

from gdn_verify.cli import app
from gdn_verify.matrix.cells import Aspect, Key, Matrix, Row, State, from_json

GREEN, RED, USAGE = 0, 1, 2
Done = subprocess.CompletedProcess[str]
Runs = Callable[..., Done]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Run it in a process of its own, in which the toys are installed."""
    site = fake_paths.install(tmp_path_factory.mktemp("site"), "matrix_toys:paths")
    env = {**os.environ, "PYTHONPATH": site, "COLUMNS": "200"}

    def run(*words: object) -> Done:
        line = [sys.executable, "-m", "gdn_verify.cli", "matrix", *map(str, words)]
        return subprocess.run(line, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def red(command: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, File]:
    """One run of toys, most of them wrong in one way."""
    file = tmp_path_factory.mktemp("red") / "red.json"
    names = "toy-orders,toy-wrong-order,toy-restless,toy-pads,toy-dead-pads,toy-missing"
    done = command("--paths", names, "--kinds", "decode", "--workers", 1, "--json", file)
    return done, file


def matrix(file: File) -> Matrix:
    return from_json(json.loads(file.read_text(encoding="utf-8")))


def of(file: File, path: str) -> Row:
    return next(row for row in matrix(file).rows if row.path == path)


def wrong(row: Row) -> set[tuple[Aspect, str]]:
    return {(key.aspect, key.name) for key, cell in row.cells.items() if cell.state is State.DISAGREES}


def test_a_run_with_something_wrong_is_red(red: tuple[Done, File]) -> None:
    """And says so at the end, and what."""
    done, _ = red
    assert (done.returncode, "the matrix is red" in done.stdout) == (RED, True), done.stdout + done.stderr
    assert "toy-wrong-order 1.0 on cpu: feature decode state order: KV: values/o" in done.stdout


def test_a_right_path_has_no_red_cell(red: tuple[Done, File]) -> None:
    """Beside all those that are wrong."""
    row = of(red[1], "toy-orders")
    assert not wrong(row)
    assert row.cells[Key(Aspect.KIND, "decode")].state is State.AGREES
    assert row.cells[Key(Aspect.FEATURE, "decode", "state order: KV")].cases > 0


def test_a_wrong_feature_is_red_in_its_cell_and_in_no_other(red: tuple[Done, File]) -> None:
    """The kind is red too; ratios, sizes and views that a wrong case happened to have are not. What is handed to it in
    that order is wrong as well, and that is another question.
    """
    row = of(red[1], "toy-wrong-order")
    judged = {what for what in wrong(row) if what[0] is not Aspect.HANDOVER}
    assert judged == {(Aspect.KIND, ""), (Aspect.FEATURE, "state order: KV")}
    assert row.cells[Key(Aspect.FEATURE, "decode", "state order: VK")].state is State.AGREES


def test_bits_that_differ_again_are_red_as_that_and_not_as_values(red: tuple[Done, File]) -> None:
    """The numbers are right."""
    assert wrong(of(red[1], "toy-restless")) >= {(Aspect.DETERMINISM, "")}
    assert of(red[1], "toy-restless").cells[Key(Aspect.KIND, "decode")].state is State.AGREES


def test_pads_are_observed_beside_what_is_declared(red: tuple[Done, File]) -> None:
    """Zeros are declared, and ones are there."""
    cell = of(red[1], "toy-pads").cells[Key(Aspect.PADDING, "decode", "id -1")]
    assert (cell.state, "out written, declared zeros" in cell.why) == (State.DISAGREES, True)


def test_a_path_that_dies_of_a_pad_costs_the_others_nothing(red: tuple[Done, File]) -> None:
    """Its death is told where it belongs, and its other facts are there."""
    cells = of(red[1], "toy-dead-pads").cells
    assert "ends its worker" in cells[Key(Aspect.PADDING, "decode", "id -1")].why
    assert cells[Key(Aspect.FEATURE, "decode", "padding id: -1")].state is State.DISAGREES
    assert cells[Key(Aspect.HANDOVER, "decode", "toy-pads")].state is State.AGREES


def test_what_is_missing_is_said_with_the_remedy(red: tuple[Done, File]) -> None:
    """On the terminal and in the file."""
    done, file = red
    assert "missing: toy-missing on cpu: libfake is not installed (pip install 'libfake[gpu]')" in done.stdout
    assert "pip install 'libfake[gpu]'" in of(file, "toy-missing").missing


def test_runs_are_merged_into_a_file_and_a_page(command: Runs, red: tuple[Done, File], tmp_path: File) -> None:
    """Another machine's rows stand beside these; what was red there is red here."""
    there, both, page = tmp_path / "there.json", tmp_path / "both.json", tmp_path / "both.html"
    body = json.loads(red[1].read_text(encoding="utf-8"))
    body["rows"] = [{**row, "device": "elsewhere"} for row in body["rows"]]
    there.write_text(json.dumps(body), encoding="utf-8")
    done = command("--merge", red[1], there, "--json", both, "--page", page)
    assert done.returncode == RED, done.stderr
    assert len([row for row in matrix(both).rows if row.path == "toy-orders"]) == 2
    assert "elsewhere" in page.read_text(encoding="utf-8")


def test_a_right_path_exits_with_zero(command: Runs) -> None:
    """Of what ran, nothing disagrees."""
    done = command("--paths", "toy-right", "--kinds", "decode", "--workers", 1)
    assert (done.returncode, "nothing disagrees" in done.stdout) == (GREEN, True), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--paths", "nobody"), "no path is called 'nobody'"),
        (("--hosts", "mars"), "no host is called 'mars'"),
        (("--page", "matrix.pdf"), "a page is .md or .html"),
        (("--merge",), "--merge makes one matrix of the files"),
        (("some.json",), "--merge makes one matrix of the files"),
        (("--merge", "some.json", "--paths", "toy-right"), "--merge runs nothing"),
        (("--merge", "no-such.json"), "no-such.json"),
    ],
)
def test_a_command_that_makes_no_sense_exits_with_two(words: tuple[str, ...], said: str) -> None:
    """In one sentence."""
    done = CliRunner().invoke(app, ["matrix", *words])
    assert (done.exit_code, said in done.stderr) == (USAGE, True), done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--paths", "toy-missing"), "nothing ran"),
        (("--paths", "toy-right", "--hosts", "rocm"), "no path runs on these hosts"),
    ],
)
def test_a_run_of_nothing_exits_with_two(command: Runs, words: tuple[str, ...], said: str) -> None:
    """Nothing that disagrees is no proof, if nothing was asked."""
    done = command(*words)
    assert (done.returncode, said in done.stderr) == (USAGE, True), done.stderr
