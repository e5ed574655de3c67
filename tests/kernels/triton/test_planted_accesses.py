"""The memory checker must find real bugs, planted in copies of the kernels, with every other check off.

Names are those under which such bugs have shipped elsewhere, in a word. Paths run the gate's own cases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.shapes import PREFILL_SMALL, SMALL, TINY, Size, draw_cases
from gdn_verify.cases.strategies import cases
from gdn_verify.cases.triggers import OUT_OF_REACH, TRIGGERS
from gdn_verify.checks import accesses
from gdn_verify.feed import feed, initial_pools
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants.evidence import ACCESSES
from gdn_verify.paths import find

from .planting import DECODE, PREFILL, Edit, planted

pytest.importorskip("triton")
PROMPTS = replace(PREFILL_SMALL, max_row_tokens=40, max_tokens=70, max_value_heads=4, max_dim=32, rare_row_tokens=0)
SIZES = {Kind.DECODE: TINY, Kind.SPEC: TINY, Kind.PREFILL: PROMPTS}
CASES = 16


@dataclass(frozen=True)
class Defect(Edit):
    """An edit that makes launches of `path` misuse memory in one of these ways (a|b)."""

    path: str
    kind: Kind
    ways: str
    size: Size | None = None
    seed: int = 7


def seen(defect: Defect) -> list[str]:
    """In the interpreter's process: what the watch sees in the first of the gate's cases in which it sees anything."""
    path = find(defect.path)
    path.load("interpreter")
    strategy = cases(path.capabilities, path.conventions, defect.kind, size=defect.size or SIZES[defect.kind])
    host, launchers = HOSTS["interpreter"], PREFILL if defect.kind is Kind.PREFILL else DECODE
    with planted(defect, launchers):
        for case, shown in draw_cases(strategy, CASES, defect.seed):
            fed = feed(case, 0, path, shown, initial_pools(case, path, shown), "cpu")
            with accesses.watching(fed, path.conventions, host) as watch:
                path.run(watch.launch)
            if found := watch.findings():
                return [str(each) for each in found]
    return []


def decode(
    name: str, file: str, right: str, wrong: str, ways: str, path: str = "fused-decode-o", **drawn: Any
) -> Defect:
    return Defect(name, file, right, wrong, path, Kind.DECODE, ways, **drawn)


def spec(name: str, file: str, right: str, wrong: str, ways: str) -> Defect:
    return Defect(name, file, right, wrong, "fused-spec", Kind.SPEC, ways)


def prefill(name: str, file: str, right: str, wrong: str, ways: str, path: str = "chunk-delta") -> Defect:
    return Defect(name, file, right, wrong, path, Kind.PREFILL, ways)


READ, WRITE, NOTHING, SEALED = "read out of", "write out of", "uninitialised", "not to change"
DEFECTS = [
    decode("null-block-zero-guard", "decode_kernel.py", "legal = legal & (slot != PAD)", "legal = legal",
           f"{NOTHING}|{SEALED}", "fused-decode-null", seed=9),  # the sentinel is 0 in few cases
    decode("neg-index-oob", "decode_kernel.py", "legal = (slot >= 0) & (slot < num_slots)", "legal = slot < num_slots",
           READ),
    decode("neg-index-clamped-to-live-slot", "decode_kernel.py", "    legal = (slot >= 0)",
           "    slot = tl.maximum(slot, 0)\n    legal = (slot >= 0)", f"race|{SEALED}|{NOTHING}"),
    decode("state-pool-offset-int32", "decode_kernel.py", "mask=here, other=-1).to(tl.int64)",
           "mask=here, other=-1).to(tl.int32)", READ),
    decode("cast-after-multiply", "decode_kernel.py", "pool + slot * stride_pool +",
           "pool + (slot.to(tl.int32) * stride_pool).to(tl.int64) +", READ),
    decode("conv-offsets-int32", "decode_kernel.py", "conv_pool + slot * stride_conv",
           "conv_pool + slot.to(tl.int32) * stride_conv", READ),
    decode("compact slots assumed", "decode_kernel.py", "pool + slot * stride_pool +", "pool + slot * (HV * V * K) +",
           READ),
    decode("gate-load-unmasked-past-K", "decode_kernel.py",
           "return tl.load(at) if EVEN else tl.load(at, mask=inside, other=0)", "return tl.load(at)", READ),
    decode("a tail of z is dropped", "decode_kernel.py", "tl.store(z_out + unit * stride_z + value, z, mask=inside)",
           "tl.store(z_out + unit * stride_z + value, z, mask=inside & (column < V - 1))", "never written: z_out"),
    decode("an output row too far", "decode_kernel.py", "tl.store(out + token * stride_out + value, o.to",
           "tl.store(out + (token + 1) * stride_out + value, o.to", f"{WRITE}|race"),
    decode("the first sharer shifts the conv state, not the last", "decode_kernel.py",
           "if (taken + QUANTUM // SHARERS) % QUANTUM == 0:", "if taken % QUANTUM == 0:", "race, read after write"),
    decode("a ticket of the wrong row", "decode_kernel.py", "tickets + slot * H + key_head", "tickets + key_head",
           "race", size=SMALL),
    decode("the conv state is shifted by every sharer", "decode_kernel.py",
           "if (taken + QUANTUM // SHARERS) % QUANTUM == 0:", "if taken >= 0:", "race, write after write"),
    decode("conv update of a free slot", "conv_kernel.py", "conv_slot = conv_pool + slot * stride_conv",
           "conv_slot = conv_pool + (slot + 1) * stride_conv", f"{READ}|{NOTHING}", "two-launch-decode"),
    spec("unguarded read column", "spec_kernel.py", "table + (accepted - 1) * stride_column, mask=counted",
         "table + accepted * stride_column, mask=counted", f"{READ}|{NOTHING}"),
    spec("spec state offset in 32 bits", "spec_kernel.py", "other=-1).to(tl.int64)", "other=-1).to(tl.int32)", READ),
    prefill("has-initial-state-ignored", "scan_kernel.py", "mask=tile_mask & known", "mask=tile_mask", NOTHING),
    prefill("slot offset in 32 bits", "varlen.py", "slot = tl.load(indices + at).to(tl.int64)",
            "slot = tl.load(indices + at).to(tl.int32)", READ),
    prefill("recompute-w-u-leaves-elements", "intra_kernel.py", "W.to(w_out.dtype.element_ty))",
            "W.to(w_out.dtype.element_ty), mask=(c < C - 1)[:, None] & (d >= 0)[None, :])", NOTHING),
    prefill("kkt-upper-blocks-unwritten", "intra_kernel.py", "B.to(b_out.dtype.element_ty))",
            "B.to(b_out.dtype.element_ty), mask=c[:, None] >= c[None, :])", NOTHING),
    prefill("chunk-count-underestimated", "chunk.py", "KP, blocks = padded(K), T // C + N",
            "KP, blocks = padded(K), max(T // C, 1)", f"{READ}|{NOTHING}"),
    prefill("substitution-reads-past-T", "intra_kernel.py",
            "strength = tl.load(beta + first * stride_beta + head + c * stride_beta, mask=here, other=0)",
            "strength = tl.load(beta + first * stride_beta + head + c * stride_beta)", READ),
    prefill("a token behind a row's end is stored", "scan_kernel.py", "here = (begin + c < length)[:, None]",
            "here = (begin + c < length + 1)[:, None]", f"race|{READ}"),
    prefill("conv-state-overwritten-while-read", "conv_prefill_kernel.py", "own * stride_conv + later",
            "own * stride_conv", "missing barrier: conv_pool", "conv-chunk-delta"),
    prefill("short-chunk-state-into-shared-prefix-block", "conv_prefill_kernel.py",
            "slot = conv_pool + own * stride_conv",
            "slot = conv_pool + tl.where(length < W - 1, read, own) * stride_conv", SEALED, "conv-chunk-delta"),
    prefill("every block of a row stores its conv state", "conv_prefill_kernel.py", "if begin == 0:", "if begin >= 0:",
            "race, write after write", "conv-chunk-delta"),
    prefill("a segment too few is begun", "join_kernel.py", "range(segment_tokens, length, segment_tokens)",
            "range(segment_tokens, length - segment_tokens, segment_tokens)", NOTHING, "chunk-delta:segments=3"),
]  # fmt: skip


def test_the_bugs_that_this_check_is_said_to_see_are_those_planted_here():
    """Within the cases that are said."""
    assert {each.name for each in DEFECTS} & {*TRIGGERS, *OUT_OF_REACH} == set(ACCESSES)
    assert set(ACCESSES.values()) == {CASES}


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_planted_defect_is_seen(interpreted, defect):
    """In one of the ways that it misuses memory."""
    found = interpreted(seen, defect)
    assert found, f"{CASES} launches look right"
    assert any(way in each for way in defect.ways.split("|") for each in found), "\n".join(found)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("fused-decode-o", Kind.DECODE), ("fused-decode-null", Kind.DECODE), ("two-launch-decode", Kind.DECODE),
     ("fused-spec", Kind.SPEC), ("chunk-delta", Kind.PREFILL), ("conv-chunk-delta", Kind.PREFILL)],
)  # fmt: skip
def test_without_a_defect_nothing_is_seen(interpreted, path, kind):
    """A copy with nothing wrong passes: what is seen is the defect, not the copying."""
    same = "if stop <= start:"
    assert interpreted(seen, Defect("none", "scan_kernel.py", same, same, path, kind, "")) == []
