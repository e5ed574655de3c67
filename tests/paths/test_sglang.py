"""SGLang's Triton kernels as paths: they conform where SGLang is installed, and keep clear of what it computes wrong.

What the ledger knows of them is asked first, so that a release which has mended it fails here; so are other defects,
each in a process of its own.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from upstream import conforms, right_by_now

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import ConvLayout, DType, DTypes, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.paths import Path, find
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.paths.sglang import base, paths


@pytest.mark.slow
@pytest.mark.parametrize("path", paths(), ids=lambda path: path.name)
def test_kernels_conform(path: Path) -> None:
    """In the interpreter."""
    conforms(path)


def test_without_sglang_a_path_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is imported for it."""
    monkeypatch.setattr(base, "find_spec", lambda name: None if name == "sglang" else object)
    for path in paths():
        assert str(path.missing("interpreter")) == "sglang is not installed (pip install sglang)"


@pytest.mark.parametrize(
    ("found", "taken"), [("0.5.22", False), ("0.5.23", True), ("0.5.23rc1", True), ("0.6", True), ("", False)]
)
def test_releases_that_nobody_has_read_are_not_taken(found: str, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep these kernels elsewhere, and may lay out states otherwise."""
    monkeypatch.setattr(base, "find_spec", lambda name: object)
    monkeypatch.setattr(base, "installed", lambda: found)
    assert (find("sglang-decode").missing("interpreter") is None) is taken


SMALL = Geometry(1, 1, 16, 16)


def _launch(*rows: Row, geometry: Geometry = SMALL) -> Case:
    return Case(geometry, DTypes(activation=DType.BF16, conv_state=DType.BF16), 2, (Batch(rows),))


def test_a_padded_row_is_not_gathered() -> None:
    """Its id would name the last slot, which is somebody's; of a pool that is dense no slot is gathered."""
    case, extend = _launch(Row(1, (0,)), Row(0, (None,))), find("sglang-extend")
    assert extend.refuses(case, Presentation()) is None
    for apart in (Presentation(slot_pad=8), Presentation(conv_layout=ConvLayout.D_CONTIGUOUS)):
        assert "the last slot" in str(extend.refuses(case, apart))
        assert extend.refuses(_launch(Row(1, (0,))), apart) is None


@pytest.mark.parametrize("name", ["sglang-chunk", "sglang-extend"])
def test_no_row_stands_behind_an_empty_one(name: str) -> None:
    """It would be taken for the empty one; at the end of a launch there is nobody to be."""
    empty, row = Row(0, (None,)), Row(3, (0,))
    assert "miscounted" in str(find(name).refuses(_launch(empty, row), Presentation()))
    assert find(name).refuses(_launch(row, empty), Presentation()) is None


def test_a_prompts_history_is_of_the_inputs_type() -> None:
    """One name holds both in its kernel, which does not compile of two types; it was seen on an H200."""
    case, path = _launch(Row(3, (0,))), find("sglang-extend")
    for other in (DType.F32, DType.F16):
        apart = replace(case, dtypes=replace(case.dtypes, conv_state=other))
        assert "of one type alone" in str(refusal_of(path, apart, Presentation()))


@pytest.mark.parametrize("name", ["sglang-packed-decode", "sglang-decode", "vllm-packed-decode", "vllm-decode"])
def test_a_packed_decode_has_a_token_a_row(name: str) -> None:
    """Padded rows too: their tokens would be taken for those of the rows behind."""
    padded = _launch(Row(2, (None,)), Row(1, (0,)))
    assert "at most 1" in str(refusal_of(find(name), padded, Presentation(first_slot=1, sentinel=0)))


def test_one_row_of_a_certain_shape_asks_for_a_card() -> None:
    """Two of them do not, nor does one of any other shape."""
    shape, one, two = Geometry(4, 12, 128, 128), (Row(1, (0,)),), (Row(1, (0,)), Row(1, (1,)))
    for name in ("sglang-packed-decode", "sglang-decode"):
        assert "which card it is" in str(find(name).refuses(_launch(*one, geometry=shape), Presentation()))
        assert find(name).refuses(_launch(*two, geometry=shape), Presentation()) is None
        assert find(name).refuses(_launch(*one), Presentation()) is None


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="sglang 0.5.23; once mended, its path need not refuse it any more"
)
@pytest.mark.parametrize(
    "defect",
    [
        "rows_of_no_tokens",
        "pools_with_holes",
        "ids_that_lie_apart",
        "convs_of_width_five",
        "programs_of_a_busy_decode",
        "histories_of_the_other_kind",
    ],
)
def test_what_the_paths_keep_clear_of_is_right(defect: str) -> None:
    """It is not, as long as they refuse it or are given something else: see docs/implementations/sglang.md."""
    assert right_by_now(find("sglang-decode"), "sglang_defects.py", defect)
