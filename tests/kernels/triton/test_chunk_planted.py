"""The gate must fail on copies of the prefill kernels with one defect each, within a dozen prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.sizes import PREFILL_SMALL
from gdn_verify.cases.strategies import cases
from gdn_verify.hosts import HOSTS
from gdn_verify.paths import find
from gdn_verify.runner import run_case
from gdn_verify.verdict import Check, Finding

from .planting import Edit, planted

pytest.importorskip("triton")
SIZE = replace(PREFILL_SMALL, max_row_tokens=70, max_tokens=140, max_value_heads=4, max_dim=32, rare_row_tokens=0)
CASES = 12
SEGMENTS = "chunk-delta:segments=50"


@dataclass(frozen=True)
class Defect(Edit):
    """An edit that check `by` must see in launches of `path`."""

    path: str = "chunk-delta"
    by: Check = Check.VALUES


def hunted(defect: Defect) -> Finding | None:
    """In the interpreter's process: the first finding of the gate's cases."""
    path = find(defect.path)
    path.load("interpreter")
    strategy = cases(path.capabilities, path.conventions, Kind.PREFILL, size=SIZE)
    with planted(defect):
        for case, shown in draw_cases(strategy, CASES, 5):
            if found := run_case(case, shown, path, HOSTS["interpreter"]).findings:
                return found[0]
    return None


DEFECTS = [
    Defect(
        "a chunk does not see the state before it", "scan_kernel.py", "h * whole, EXACT)", "h * 0.0, EXACT)",
    ),
    Defect(
        "the last token's decay misses the state", "scan_kernel.py",
        "factors + at * 3 * C + 3 * C - 1", "factors + at * 3 * C + 3 * C - 2",
    ),
    Defect(
        "a token behind a row's end is stored", "scan_kernel.py",
        "here = (begin + c < length)[:, None]", "here = (begin + c < length + 1)[:, None]", by=Check.MEMORY,
    ),
    Defect(
        "gates behind a row's end are summed", "intra_kernel.py",
        "head + c * stride_g, mask=here, other=0)", "head + c * stride_g)",
    ),
    Defect("has_initial_state is ignored", "scan_kernel.py", "mask=tile_mask & known", "mask=tile_mask"),
    Defect(
        "the slot that is written is read", "scan_kernel.py", "pool + read * stride_pool", "pool + own * stride_pool",
    ),
    Defect("W of keys that do not decay", "intra_kernel.py", "trans(X * to_end[:, None])", "trans(X)"),
    Defect("blocks of 8 are not joined", "intra_kernel.py", "static_range(1, 4)", "static_range(1, 3)"),
    Defect("blocks of 16 are not joined", "intra_kernel.py", "X = join_blocks(X, L_16, 16, EXACT)", "pass"),
    Defect(
        "β of the row, not of the column", "intra_kernel.py",
        "(strength * scale)[None, :]", "(strength * scale)[:, None]",
    ),
    Defect(
        "all heads have the gates of the first", "intra_kernel.py",
        "g + first * stride_g + head", "g + first * stride_g + 0 * head",
    ),
    Defect("value head j reads key head j % H", "intra_kernel.py", "head // (HV // H)", "head % H"),
    Defect("k is normalised with another epsilon", "intra_kernel.py", "diagonal(kk_blocks) + eps",
           "diagonal(kk_blocks) + 1e-2"),
    Defect(
        "differences of gates pass through bfloat16", "intra_kernel.py",
        "G_rows[:, None, :]).to", "G_rows[:, None, :]).to(tl.bfloat16).to",
    ),
    Defect(
        "keys of blocks before do not decay", "intra_kernel.py",
        "(before[:, None] - G[None, :]).to", "(0.0 * G[None, :]).to",
    ),
    Defect(
        "one padded token is forgotten", "scan_kernel.py", "out, end + row,", "out, end + row + 1,", by=Check.MEMORY,
    ),
    Defect(
        "what a segment does to a state is not heard of", "join_kernel.py", "chosen, total,", "0.0 * chosen, total,",
        SEGMENTS,
    ),
    Defect("M keeps what has decayed", "span_kernel.py", "h * whole", "h", SEGMENTS),
    Defect(
        "the slot that is written is read", "join_kernel.py", "    _, read, known", "    read, _, known",
        SEGMENTS,
    ),
    Defect(
        "a block's first tokens see no history", "conv_prefill_kernel.py",
        "tl.where(past < 0, history.to(tl.float32), given.to(tl.float32))", "given.to(tl.float32)", "conv-chunk-delta",
    ),
    Defect(
        "the conv state is a token late", "conv_prefill_kernel.py", "length - (W - 1) + j", "length - W + j",
        "conv-chunk-delta", Check.MEMORY,
    ),
    Defect(
        "the bias is added at every tap", "conv_prefill_kernel.py", "if w == 0:", "if w >= 0:", "conv-chunk-delta",
    ),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_planted_defect_is_found(interpreted, defect):
    """By the check that is meant for it, and not because a launch broke down."""
    finding = interpreted(hunted, defect)
    assert finding is not None, f"{CASES} cases agree"
    assert finding.check is defect.by
    assert "raised" not in finding.kind


@pytest.mark.parametrize("path", ["chunk-delta", SEGMENTS, "conv-chunk-delta"])
def test_without_a_defect_nothing_is_found(interpreted, path):
    """A copy with nothing wrong passes: what is found is the defect, not the copying."""
    same = "if stop <= start:"
    assert interpreted(hunted, Defect("none", "scan_kernel.py", same, same, path)) is None
