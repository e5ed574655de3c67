"""The checks of this folder must fail: on copies of the kernels with one defect each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from gdn_verify.kernels.triton.tickets import make_tickets

from .planting import Edit
from .problems import Problem
from .situations import DECODE_ROWS, DRAFTS, SPEC_ROWS
from .test_decode import TILED, check
from .test_tickets import launched
from .test_two_launch import check_both

pytest.importorskip("triton")
Check = Callable[[Problem, str], None]


def check_tickets(problem: Problem, family: str) -> None:
    """One launch with tickets of its own."""
    launched(problem, family, make_tickets(problem.slots, problem.H, "cpu"))


@dataclass(frozen=True)
class Defect(Edit):
    """An edit that `check` must see, and say one of `reason` (a|b)."""

    check: Check
    problem: Problem
    family: str
    reason: str


def found(defect: Defect) -> str | None:
    """In the interpreter's process: what the check says of kernels with this defect, None if nothing."""
    with defect.kernels().live():
        try:
            defect.check(defect.problem, defect.family)
        except AssertionError as error:
            return str(error)
    return None


INTERLEAVED = replace(TILED, packing="interleaved", state_order="KV")
DEFECTS = [
    Defect(
        "the first of the sharers shifts the conv state, not the last", "decode_kernel.py",
        "if (taken + QUANTUM // SHARERS) % QUANTUM == 0:", "if taken % QUANTUM == 0:",
        check, replace(TILED, norm=None), "head", "state of slot",
    ),
    Defect(
        "the first of a draft's sharers shifts the conv state", "spec_kernel.py",
        "last = (taken + QUANTUM // SHARERS) % QUANTUM == 0", "last = taken % QUANTUM == 0",
        check, replace(DRAFTS, norm=None), "2 splits", "state of slot",
    ),
    Defect(
        "a sharer's amount is wrong", "decode_kernel.py", "share = (QUANTUM // SHARERS)",
        "share = (QUANTUM // (SHARERS + 1))", check, TILED, "head, 2 splits", "conv pool",
    ),
    Defect(
        "one ticket for all slots", "decode_kernel.py", "tickets + slot * H + key_head", "tickets + key_head",
        check_tickets, TILED, "head, 4 splits", "conv pool",
    ),
    Defect(
        "one ticket for all drafts", "spec_kernel.py", "tickets + own * H + key_head", "tickets + key_head",
        check_tickets, DRAFTS, "4 splits", "conv pool",
    ),
    Defect(
        "the conv state is not shifted", "equations.py", "tl.store(slot + w * STRIDE_C, history[w + 1], mask=mask)",
        "tl.store(slot + w * STRIDE_C, history[w], mask=mask)", check, TILED, "stages", "conv pool",
    ),
    Defect(
        "the state does not decay", "decode_kernel.py", "return old * decay + for_columns(",
        "return old + for_columns(",
        check, TILED, "chosen", "state of slot",
    ),
    Defect(
        "k·q is not normalised", "decode_kernel.py", "kq = qk * rho_q * rho_k", "kq = qk * rho_q",
        check, TILED, "key head", "output",
    ),
    Defect(
        "all heads have the gates of the first", "decode_kernel.py", "tl.load(A_log + at)", "tl.load(A_log + 0 * at)",
        check, TILED, "key head, 2 splits", "state of slot",
    ),
    Defect(
        "the mean is over one more", "decode_kernel.py", "rho = tl.rsqrt(squares / V + eps)",
        "rho = tl.rsqrt(squares / (V + 1) + eps)", check, INTERLEAVED, "head, 8 splits", "output",
    ),
    Defect(
        "z is v", "equations.py", "return R * V if INTERLEAVED else H * R * V", "return 0",
        check, replace(TILED, norm=None), "stages, key head", "z",
    ),
    Defect(
        "the next id is the pad id", "decode_kernel.py", "legal = legal & (slot != PAD)",
        "legal = legal & (slot != PAD + 1)", check, DECODE_ROWS["a pad id"], "chosen", "conv pool",
    ),
    Defect(
        "longer rows are decoded", "decode_kernel.py", "live = legal & (stop - first == 1)",
        "live = legal & (stop - first >= 1)", check, DECODE_ROWS["longer rows are passed over"], "chosen",
        "output was written",
    ),
    Defect(
        "the last token of a padded row is forgotten", "decode_kernel.py", "for t in range(first, stop):",
        "for t in range(first, stop - 1):", check, DECODE_ROWS["all padded"], "chosen", "not zero",
    ),
    Defect(
        "history from the head", "spec_kernel.py",
        "v_history = load_history(conv_slot, v_channel, inside, accepted - 1,",
        "v_history = load_history(conv_slot, v_channel, inside, 0,", check, DRAFTS, "1 split", "conv pool",
    ),
    Defect(
        "the state of column 0 is read", "spec_kernel.py", "table + (accepted - 1) * stride_column", "table",
        check, DRAFTS, "2 splits", "output|state of slot",
    ),
    Defect(
        "only the first state is written", "spec_kernel.py", "if is_slot(writes[t], num_slots, PAD):",
        "if (t == 0) & is_slot(writes[t], num_slots, PAD):", check, DRAFTS, "chosen", "state of slot",
    ),
    Defect(
        "a whole draft accepted counts as illegal", "spec_kernel.py", "(accepted <= S)", "(accepted < S)",
        check, SPEC_ROWS["every length and count"], "chosen", "conv pool",
    ),
    Defect(
        "a row longer than the table is cut", "spec_kernel.py", "(length > 0) & (length <= S)", "(length > 0)",
        check, SPEC_ROWS["longer than the table"], "chosen", "not zero",
    ),
    Defect(
        "rows are looked at that are not to be", "spec_kernel.py", "if tl.load(spec_rows + row) == 0:",
        "if tl.load(spec_rows + row) == 7:", check, SPEC_ROWS["only the rows that are looked at"], "chosen",
        "output was written",
    ),
    Defect(
        "tokens are stored one column late", "spec_kernel.py", "(W - 2 + t) * STRIDE_C", "(W - 1 + t) * STRIDE_C",
        check, DRAFTS, "chosen", "conv pool",
    ),
    Defect(
        "q and k are exchanged", "conv_kernel.py", "tl.where(channel < H * K, 0, K)", "tl.where(channel < H * K, K, 0)",
        check_both, INTERLEAVED, "chosen", "mixed_qkv",
    ),
    Defect(
        "z of the rows' tokens only", "conv_kernel.py", "if unit < num_tokens:", "if unit < num_rows:",
        check_both, DECODE_ROWS["more tokens than rows"], "chosen", "z",
    ),
]  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_planted_defect_is_found(interpreted, defect):
    """By the check that its claim has, and for the reason that it is one."""
    message = interpreted(found, defect)
    assert message is not None, "the check sees nothing"
    assert any(each in message for each in defect.reason.split("|")), message


@pytest.mark.parametrize("what", [check, check_tickets, check_both])
def test_without_a_defect_nothing_is_found(interpreted, what):
    """A copy with nothing wrong passes the checks: what is found is the defect, not the copying."""
    same = "kq = qk * rho_q * rho_k"
    assert interpreted(found, Defect("none", "decode_kernel.py", same, same, what, TILED, "head, 4 splits", "")) is None
