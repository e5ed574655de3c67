"""A matrix as data: what goes into a file comes out of it, and the worst word stands for several."""

from __future__ import annotations

import json

import pytest

from gdn_verify.matrix.cells import Aspect, Cell, Key, Matrix, MatrixError, Row, Run, State, from_json, worst
from gdn_verify.matrix.page import SUFFIXES, page

KIND = Key(Aspect.KIND, "decode")
RATIO = Key(Aspect.FEATURE, "decode", "ratio: 3")


def row(state: State = State.AGREES, **fields: str) -> Row:
    cells = {KIND: Cell(state, 3, ratio=1.25, why="h[0]: | <wrong>", case='{"schema": 1}')}
    return Row(
        **{"path": "mine", "span": "delta", "host": "cpu", "version": "1.0", "device": "x86", **fields}, cells=cells
    )


MATRIX = Matrix(
    (row(), Row("other", "delta", "cuda", missing="no card (buy one)")), (Run("2026-01-01T00:00:00Z", "run", ("x86",)),)
)


def test_a_matrix_goes_through_a_file_unchanged() -> None:
    """Through text, as two machines exchange it."""
    assert from_json(json.loads(json.dumps(MATRIX.as_json()))) == MATRIX


def test_an_infinite_ratio_is_still_json() -> None:
    """A row that is not finite has such a ratio."""
    wrong = Row("mine", "delta", "cpu", "1.0", "x86", cells={KIND: Cell(State.DISAGREES, 1, ratio=float("inf"))})
    text = json.dumps(Matrix((wrong,)).as_json(), allow_nan=False)
    assert not from_json(json.loads(text)).ok


@pytest.mark.parametrize(
    "body", [[], {}, {"schema": 2, "rows": []}, {"schema": 1, "rows": [{"path": "mine"}], "runs": [], "conflicts": []}]
)
def test_what_is_no_matrix_is_refused_by_the_name_of_its_file(body: object) -> None:
    """A gate's report, say, is JSON too."""
    with pytest.raises(MatrixError, match=r"^gate\.json: "):
        from_json(body, "gate.json")


def test_one_cell_that_disagrees_makes_it_red() -> None:
    """Nothing else does: missing and refused are told."""
    assert MATRIX.ok
    assert not Matrix((row(), row(State.DISAGREES, path="bad"))).ok
    assert Matrix((row(State.REFUSED), row(State.UNREACHED))).ok


@pytest.mark.parametrize("other", [s for s in State if s is not State.DISAGREES])
def test_no_word_outweighs_a_disagreement(other: State) -> None:
    """Of several cells in one."""
    assert worst([other, State.DISAGREES, other]) is State.DISAGREES


def test_nothing_is_not_agreement() -> None:
    """Of a row without cells."""
    assert worst([]) is State.UNREACHED


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_page_has_every_row_the_remedy_and_the_log(suffix: str) -> None:
    """Escaped: a reason holds whatever a path has raised."""
    text = page(Matrix((row(State.DISAGREES), *MATRIX.rows[1:]), MATRIX.runs), suffix)
    assert "mine 1.0 on cpu, x86" in text
    assert "no card (buy one)" in text
    assert "&lt;wrong" in text
    assert ("schema" in text, "2026-01-01T00:00:00Z" in text) == (True, True)
