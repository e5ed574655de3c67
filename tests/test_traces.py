"""A finding of memory belongs to a stage by the tensor that it names."""

from __future__ import annotations

import pytest

from gdn_verify.cases.contract import WRITE_BACK, Span, Stage
from gdn_verify.traces import first_copy, stage_of

LAYER = Span(Stage.UNPACK, Stage.NORM)
DELTA = Span(Stage.DELTA, Stage.DELTA)


@pytest.mark.parametrize(
    ("kind", "span", "stage"),
    [
        ("copy of conv state", LAYER, "conv"),
        ("changed conv_pool", LAYER, "conv"),
        ("missing barrier: conv_pool", LAYER, "conv"),
        ("copy of z", LAYER, "unpack"),
        ("unwritten z_out", LAYER, "unpack"),
        ("changed ssm_pool", LAYER, WRITE_BACK),
        ("state of an idle row", DELTA, WRITE_BACK),
        ("padding of out", LAYER, "norm"),
        ("unwritten out", DELTA, "delta"),
        ("read out of bounds: beta", LAYER, "delta"),
        ("read out of bounds: A_log", LAYER, "gates"),
        ("race, write after read: pool", LAYER, "delta"),
        ("read of uninitialised memory: w", DELTA, "delta"),
        ("race, read after write: partial", LAYER, ""),
        ("copy of conv state", DELTA, ""),
    ],
)
def test_a_kind_has_a_stage(kind: str, span: Span, stage: str) -> None:
    """Scratch of a path of one stage is that stage's; of a path of more, nobody's."""
    assert stage_of(kind, span) == stage


def test_the_first_copy_is_told() -> None:
    """z before the conv's window; what is no copy is no answer."""
    assert first_copy(["changed ssm_pool", "copy of conv state", "copy of z"], LAYER) == "unpack"
    assert first_copy(["changed ssm_pool", "copy of conv state"], LAYER) == "conv"
    assert first_copy(["changed ssm_pool"], LAYER) == ""
