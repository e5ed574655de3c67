"""Operators: what each makes of a line, and that nothing they make is no Python."""

from __future__ import annotations

import ast

import pytest

from gdn_verify.mutants.operators import OPERATORS
from gdn_verify.mutants.sources import folder
from gdn_verify.mutants.systematic import LEFT_OUT, files, mutants, source_of


def made(operator: str, text: str) -> set[str]:
    """All that an operator makes of the nodes of one line, as whole lines."""

    def source(node: ast.AST) -> str:
        return ast.get_source_segment(text, node) or ""

    found = set()
    for node in ast.walk(ast.parse(text)):
        for after in OPERATORS[operator](node, source):
            start, end = node.col_offset, node.end_col_offset  # type: ignore[attr-defined]
            whole = text.encode()
            found.add((whole[:start] + after.encode() + whole[end:]).decode())
    return found


@pytest.mark.parametrize(
    ("operator", "line", "expected"),
    [
        ("comparison", "x = a < b", {"x = (a <= b)"}),
        ("comparison", "x = a + 1 == b", {"x = ((a + 1) != b)"}),
        ("bound", "x = a < b", {"x = (a < (b) - 1)"}),
        ("bound", "x = a >= b", {"x = (a >= (b) + 1)"}),
        ("index", "tl.load(p + i, mask=m)", {"tl.load((p + i) + 1, mask=m)"}),
        ("integer", "x = a[3]", {"x = a[4]"}),
        ("mask", "x = tl.load(p, mask=m, other=0)", {"x = tl.load(p)"}),
        ("mask", "x = (a < b) & c", {"x = (a < b)", "x = (c)"}),
        ("stride", "f(q.stride(0), k.stride(0))", {"f(k.stride(0), q.stride(0))"}),
        ("factor", "x = a * b", {"x = (a)", "x = (b)"}),
        ("doubled", "x = tl.sum(a, 0)", {"x = (tl.sum(a, 0) * 2)"}),
        ("sign", "x = (a or b) + c", {"x = ((a or b) - c)"}),
        ("head_map", "x = j // R", {"x = (j % R)"}),
        ("cast", "x = (a - b).to(tl.float32)", {"x = (a - b).to(tl.bfloat16).to(tl.float32)"}),
        ("cast", "x = ä.to(tl.int64)", {"x = (ä)"}),
        ("initial", "x = torch.zeros(3)", {"x = torch.ones(3)"}),
        ("missing", "tl.store(p, x)", {"pass"}),
        ("missing", "x += y", {"pass"}),
        ("missing", "tl.static_assert(x)", set()),
        ("guard", "x = a if c else b", {"x = (a)", "x = (b)"}),
        ("guard", "x = tl.where(c, a, b)", {"x = (a)", "x = (b)"}),
        ("constant", "x = a + 1e-6", {"x = a + 2e-06"}),
        ("relative", "x = tl.exp2(a)", {"x = tl.exp(a)"}),
        ("order", 'tl.atomic_add(p, x, sem="acq_rel")', {'tl.atomic_add(p, x, sem="relaxed")'}),
    ],
)  # fmt: skip
def test_an_operator_makes_a_mistake(operator: str, line: str, expected: set[str]) -> None:
    """One a place, the rest of the line as it was."""
    assert made(operator, line) == expected


@pytest.mark.parametrize("file", files())
def test_every_mutant_is_of_its_place(file: str) -> None:
    """Nothing else of the file differs; names are given once."""
    found = mutants([file])
    right = source_of(file)
    assert len({mutant.name for mutant in found}) == len(found)
    for mutant in found:
        text = mutant.text()
        assert mutant.after != mutant.before
        assert right[mutant.start :].startswith(mutant.before)
        assert text[: mutant.start] == right[: mutant.start]
        assert text[mutant.start + len(mutant.after) :] == right[mutant.start + len(mutant.before) :]


@pytest.mark.parametrize("file", files())
def test_mutants_are_python_and_mean_something_else(file: str) -> None:
    """One in eight of a file: parsing takes its time."""
    right = ast.dump(ast.parse(source_of(file)))
    for mutant in mutants([file])[::8]:
        assert ast.dump(ast.parse(mutant.text())) != right, mutant


def test_each_operator_has_places() -> None:
    """Or it would be of no use."""
    assert {mutant.operator for mutant in mutants()} == set(OPERATORS)


def test_what_is_left_out_is_there() -> None:
    """No reason outlives its file."""
    everything = {*files(), *(name for name in LEFT_OUT if not name.endswith("/"))}
    assert all(source_of(file) for file in everything)
    assert not {*files()} & {*LEFT_OUT}


@pytest.mark.parametrize("left", [name for name in LEFT_OUT if name.endswith("/")])
def test_a_folder_that_is_left_out_has_files(left: str) -> None:
    """And none of them has mutants."""
    assert list((folder() / left).glob("*.py"))
    assert not [file for file in files() if file.startswith(left)]


def test_a_refusal_is_no_place() -> None:
    """What only refuses input is judged by other tests: no case has such input."""
    assert not [mutant for mutant in mutants() if mutant.before.startswith("raise ")]
    assert not [mutant for mutant in mutants() if mutant.function.startswith(("check", "expect"))]
