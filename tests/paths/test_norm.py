"""The gated norm alone: rows of any length, padding among them, over its input and beside it."""

from __future__ import annotations

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry, Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Fill, Values
from gdn_verify.service import Job
from gdn_verify.suspect import Answer, Suspect

ROWS = (Row(3, (1,)), Row(1, (None,)), Row(5, (0,), fresh=True))
VALUES = Values(v=Fill.NORMAL, z=Fill.NORMAL)


@pytest.mark.parametrize("pad_tokens", [0, 1])
@pytest.mark.parametrize(
    "shown", [Presentation(), Presentation(sentinel=2), Presentation(row_pad=3), Presentation(sentinel=7, row_pad=16)]
)
def test_it_is_never_accused(shown: Presentation, pad_tokens: int) -> None:
    """Of either packing, and whatever marks padding."""
    pytest.importorskip("triton")
    case = Case(Geometry(2, 6, 8, 12), DTypes(), 2, (Batch(ROWS, pad_tokens),), VALUES)
    with Suspect(Job("gated-norm", "interpreter", Kind.PREFILL, watches=1, replays=1)) as suspect:
        assert suspect.ask((case, shown)) == Answer()
