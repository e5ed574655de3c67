"""Mutants of the sources in CUDA C++: what each operator makes of a line, where it is made, and that one dies."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
from typer.testing import CliRunner

from gdn_verify import campaign
from gdn_verify.cli import app
from gdn_verify.kernels.cuda import sources
from gdn_verify.mutants import in_cuda
from gdn_verify.mutants.in_cuda import OPERATORS, files, miswritten, source_of

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler on this machine")


@pytest.mark.parametrize(
    ("operator", "line", "expected"),
    [
        ("comparison", "if (a < b) x = y;", ["if (a <= b) x = y;"]),
        ("comparison", "Array<float, 3> x;", []),
        ("sign", "x = a + b - 1;", ["x = a - b - 1;", "x = a + b + 1;"]),
        ("sign", "x = -a;", []),
        ("head_map", "x = i / VB;", ["x = i % VB;"]),
        ("mask", "x = a && b;", ["x = a || b;"]),
        ("factor", "x = a * b.c + d;", ["x = a + d;"]),
        ("factor", "TX *x = a;", []),
        ("factor", "f(at[n] * a.stride_d, p)", ["f(at[n], p)"]),
        ("integer", "x[3] = uint32(16);", ["x[4] = uint32(16);", "x[3] = uint32(17);"]),
        ("constant", "x = 0.0f + 88.0f;", ["x = 1.0f + 88.0f;", "x = 0.0f + 2.0f;"]),
        ("guard", "  if (f(a) && !b) return;", ["  if (true) return;"]),
        ("missing", "  block_barrier();", [";"]),
        ("missing", "  return f(x);", []),
        ("assignment", "  s.decay[last] = gates.decay;", [";"]),
        ("assignment", "  const int x = 3;", []),
        ("assignment", "  float x = 3;", []),
    ],
)
def test_an_operator_makes_a_mistake(operator: str, line: str, expected: list[str], monkeypatch) -> None:
    """One a place, the rest of the line as it was."""
    monkeypatch.setattr(in_cuda, "source_of", lambda file: line)
    made = [mutant.text() for mutant in in_cuda._of_file("x.cu") if mutant.operator == operator]
    assert made == expected


def test_comments_directives_and_assertions_have_none(monkeypatch) -> None:
    """Nor what is emulated by other text."""
    text = '// a < b\n#include "x.h"\nstatic_assert(A + 1 > 2);\n#pragma unroll\n'
    monkeypatch.setattr(in_cuda, "source_of", lambda file: text)
    assert not list(in_cuda._of_file("x.cu"))
    assert "machine.cuh" not in files()


def test_every_mutant_stands_where_it_says() -> None:
    """By name, place and text; every operator finds some in the kernels, and every file has some."""
    made = miswritten()
    assert len({mutant.name for mutant in made}) == len(made) > 900
    for mutant in made:
        right, wrong = source_of(mutant.file), mutant.text()
        assert right[mutant.start :].startswith(mutant.before)
        assert wrong != right
        assert right.splitlines()[mutant.first - 1].strip() in right[: mutant.start + len(mutant.before) + 200]
    counts = Counter((mutant.file, mutant.operator) for mutant in made)
    assert {mutant.file for mutant in made} == set(files())
    assert all(counts["decode.cu", each] and counts["spec.cu", each] for each in OPERATORS if each != "constant")


def test_a_mutant_is_in_what_is_compiled(monkeypatch) -> None:
    """In its own file alone."""
    monkeypatch.setattr(sources, "read", sources.read)
    mutant = next(m for m in miswritten(["decode.cu"]) if m.before.strip() == "block_barrier();")
    mutant.begin()
    try:
        assert sources.read("source/decode.cu") == mutant.text() != source_of("decode.cu")
        assert sources.read("source/spec.cu") == source_of("spec.cu")
    finally:
        monkeypatch.undo()
        sources.whole.cache_clear()


def test_its_jobs_are_those_of_the_paths_that_compile_it() -> None:
    """On the host that emulates, and no others."""
    decode, shared, all_of_them = (miswritten([file])[0] for file in ("decode.cu", "tile.cuh", "numbers.cuh"))
    jobs = campaign.plan(mutants=[decode])
    assert {job.host for job in jobs} == {in_cuda.HOST}
    assert {job.path for job in decode.jobs(jobs)} == set(in_cuda.BY_FILE["decode.cu"])
    assert set(shared.paths) == {*in_cuda.BY_FILE["decode.cu"], *in_cuda.BY_FILE["spec.cu"]}
    assert all_of_them.paths == in_cuda.PATHS


def test_the_class_stands_alone() -> None:
    """As its campaign runs on a host of its own."""
    result = CliRunner().invoke(app, ["mutants", "--class", "cuda,mask"])
    assert result.exit_code == 2
    assert "stands alone" in result.stderr


@needs_compiler
def test_a_barrier_that_is_not_there_is_seen() -> None:
    """By the gate's own cases, emulated."""
    name = [mutant for mutant in miswritten(["decode.cu"]) if mutant.before.strip() == "block_barrier();"][-1].name
    result = CliRunner().invoke(app, ["mutants", "--class", "cuda", "--names", name, "--workers", "1", "--least", "1"])
    assert result.exit_code == 0, result.output
    assert f"killed {name}" in result.output
