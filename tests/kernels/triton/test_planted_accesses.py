"""The memory checker must find real bugs, planted in copies of the kernels, with every other check off.

Those that are like bugs that shipped elsewhere are mutants of the catalogue. Paths run the gate's own cases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.sizes import PREFILL_SMALL, SMALL, TINY, Size
from gdn_verify.cases.strategies import cases
from gdn_verify.checks import accesses
from gdn_verify.feed import feed, initial_pools
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants import BUGS, MUTANTS
from gdn_verify.mutants.evidence import ACCESSES
from gdn_verify.paths import find

from .planting import DECODE, PREFILL, Edit, of_catalogue, planted

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


def known(name: str, ways: str, **drawn: Any) -> Defect:
    """A mutant of the catalogue that is one edit."""
    mutant, edit = MUTANTS[name], of_catalogue(name)
    return Defect(name, edit.file, edit.right, edit.wrong, mutant.path, Kind(mutant.kinds[0]), ways, **drawn)


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
    known("padding_id_not_asked", f"{NOTHING}|{SEALED}", seed=10),  # the sentinel is 0 in few cases
    known("negative_ids_not_asked", READ),
    known("negative_ids_raised_to_zero", f"race|{SEALED}|{NOTHING}"),
    known("slot_in_32_bits", READ),
    known("draft_slot_in_32_bits", READ),
    known("prompt_slot_in_32_bits", READ),
    known("product_in_32_bits", READ),
    known("conv_offset_in_32_bits", READ),
    known("state_unmasked_past_k", READ),
    known("fresh_rows_read_their_slot", NOTHING),
    known("last_row_of_w_not_stored", NOTHING),
    known("upper_half_of_b_not_stored", NOTHING),
    known("chunks_of_full_rows", f"{READ}|{NOTHING}"),
    known("beta_behind_the_row", READ),
    known("window_stored_while_it_is_read", "missing barrier: conv_pool"),
    known("short_window_to_the_slot_read", SEALED, seed=10),
    known("parts_joined_without_a_barrier", "race, read after write: partial", size=SMALL),
    decode("compact slots assumed", "decode_kernel.py", "pool + slot * stride_pool +", "pool + slot * (HV * V * K) +",
           READ),
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
    prefill("a token behind a row's end is stored", "scan_kernel.py", "here = (begin + c < length)[:, None]",
            "here = (begin + c < length + 1)[:, None]", f"race|barrier|{READ}"),
    prefill("every block of a row stores its conv state", "conv_prefill_kernel.py", "if begin == 0:", "if begin >= 0:",
            "race, write after write", "conv-chunk-delta"),
    prefill("a segment too few is begun", "join_kernel.py", "range(segment_tokens, length, segment_tokens)",
            "range(segment_tokens, length - segment_tokens, segment_tokens)", NOTHING, "chunk-delta:segments=3"),
]  # fmt: skip


def test_the_bugs_that_this_check_is_said_to_see_are_those_planted_here():
    """Within the cases that are said."""
    assert {each.name for each in DEFECTS} & set(BUGS) == set(ACCESSES)
    assert set(ACCESSES.values()) == {CASES}


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_planted_defect_is_seen(interpreted, defect):
    """In one of the ways that it misuses memory."""
    found = interpreted(seen, defect)
    assert found, f"{CASES} launches look right"
    assert any(way in each for way in defect.ways.split("|") for each in found), "\n".join(found)


@pytest.mark.slow  # the gate checks every access of these paths too
@pytest.mark.parametrize(
    ("path", "kind"),
    [("fused-decode-o", Kind.DECODE), ("fused-decode-null", Kind.DECODE), ("two-launch-decode", Kind.DECODE),
     ("fused-spec", Kind.SPEC), ("chunk-delta", Kind.PREFILL), ("conv-chunk-delta", Kind.PREFILL)],
)  # fmt: skip
def test_without_a_defect_nothing_is_seen(interpreted, path, kind):
    """A copy with nothing wrong passes: what is seen is the defect, not the copying."""
    same = "if stop <= start:"
    assert interpreted(seen, Defect("none", "scan_kernel.py", same, same, path, kind, "")) == []
