"""Contract: what the contract says of a launch's tensors is what its accesses are judged by, on hosts that see them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from check_cases import LAYER, SMALL, Idle, case_of, fed

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import Conventions, PadPolicy
from gdn_verify.cases.presentation import Presentation
from gdn_verify.checks import accesses
from gdn_verify.emulator.access import Access, Fault, Known
from gdn_verify.emulator.stretch import FAR
from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.base import Host
from gdn_verify.verdict import Check

ROWS = (
    Row(2, (0,)),  # continues in place
    Row(1, (3,), fresh=True),
    Row(2, (4,), read=5),
    Row(1, (None,)),  # padding
    Row(0, (6,)),  # idle
)
ZEROS = Conventions(pad_outputs=(("out", PadPolicy.ZEROS),))


def known(case: Case, conventions: Conventions = ZEROS, presentation: Presentation | None = None) -> dict[str, Known]:
    """What is known of the tensors of a whole layer's launch."""
    feed = fed(case, Idle(LAYER), presentation)
    return {each.name: each for each in accesses.known(feed, conventions)}


def slots(mask: torch.Tensor | None) -> set[int]:
    """The slots that are picked, all of each."""
    assert mask is not None
    assert torch.equal(mask, mask.flatten(1).all(1).reshape(-1, *[1] * (mask.dim() - 1)).expand(mask.shape))
    return set(mask.flatten(1).all(1).nonzero().flatten().tolist())


@pytest.mark.parametrize("pool", accesses.POOLS)
def test_slots_hold_values_for_rows_that_continue(pool):
    """Fresh rows' slots and slots that no row names hold nothing; only slots that rows name may be written."""
    found = known(case_of(*ROWS, slots=9))[pool]
    assert slots(found.unwritten) == {1, 2, 3, 4, 7, 8}
    assert slots(found.sealed) == {1, 2, 5, 7, 8}


def test_a_draft_reads_the_accepted_slot_and_writes_the_others():
    """The conv state lives in its first."""
    found = known(case_of(Row(2, (0, 1, 2), accepted=2), geometry=replace(SMALL, num_spec=2), slots=4))
    assert slots(found["ssm_pool"].unwritten) == {0, 2, 3}
    assert slots(found["conv_pool"].unwritten) == {1, 2, 3}
    assert slots(found["ssm_pool"].sealed) == slots(found["conv_pool"].sealed) == {3}


def test_a_scratch_slot_is_anybodys():
    """And is not sealed."""
    found = known(case_of(*ROWS, slots=9), replace(ZEROS, scratch_slot=8))["ssm_pool"]
    assert slots(found.free) == {8}
    assert 8 not in slots(found.sealed)


@pytest.mark.parametrize(("policy", "sealed"), [(PadPolicy.ZEROS, set()), (PadPolicy.UNTOUCHED, {5, 6})])
def test_outputs_hold_nothing_and_live_tokens_must(policy, sealed):
    """Padded tokens may hold anything, or must not be touched, as the path declares."""
    found = known(case_of(*ROWS, pad_tokens=1), Conventions(pad_outputs=(("out", policy),)))["out"]
    assert slots(found.unwritten) == set(range(7))
    assert slots(found.loose) == {5, 6}
    assert slots(found.sealed) == sealed


def test_inputs_are_sealed():
    """All that is neither a pool nor an output."""
    found = known(case_of(*ROWS))
    inputs = set(found) - {*accesses.POOLS, *accesses.OUTPUTS}
    assert {"qkvz", "ba", "A_log", "state_indices", "query_start_loc", "conv_weight"} <= inputs
    assert all(bool(found[name].sealed.all()) and found[name].unwritten is None for name in inputs)


def test_only_strided_pools_are_stretched():
    """To distances that take more than 32 bits from the third slot on; other tensors stay as they are."""
    case = case_of(*ROWS)
    assert accesses.far_apart(feed := fed(case, Idle(LAYER))) is feed.launch
    feed = fed(case, Idle(LAYER), Presentation(slot_pad=16))
    launch = accesses.far_apart(feed)
    for name, tensor in launch.tensors.items():
        plain = feed.launch[name]
        far = name in accesses.POOLS
        assert tensor.data_ptr() == plain.data_ptr()
        assert tensor.stride(0) == (FAR if far else plain.stride(0))
        assert tensor.stride()[1:] == plain.stride()[1:]
    assert 2 * FAR > 2**31 > FAR


def test_strided_activations_are_stretched_as_far_as_a_path_takes_them():
    """Aligned as they are, outputs beside them; not where tokens are dense, or where nothing is said of far ones."""
    case, widest = case_of(*ROWS), 2**25 - 1
    assert accesses.far_apart(dense := fed(case, Idle(LAYER)), widest) is dense.launch
    feed = fed(case, Idle(LAYER), Presentation(row_pad=3))
    assert accesses.far_apart(feed) is feed.launch
    launch = accesses.far_apart(feed, widest)
    for name, tensor in launch.tensors.items():
        plain, far = feed.launch[name], name in ("qkvz", "ba", "out", "z_out")
        assert widest - 64 < tensor.stride(0) <= widest if far else tensor.stride() == plain.stride()
        assert (tensor.stride(0) - plain.stride(0)) % 64 == 0


class Seeing(Host):
    """A host whose checker has seen one thing, and that nothing was written to out."""

    def memory_checker(self):
        class Seen:
            def findings(self):
                return [Access(Fault.HAZARD, "kernel", "file.py:3 in kernel", "conv_pool", (0, 1), (2, 3), (0, 0, 0))]

            def unwritten(self, name, tensor, wanted):
                return Access(Fault.UNWRITTEN, "", "", name, (0,), (2,), (0, 0, 0)) if name == "out" else None

        @contextmanager
        def checked(known):
            yield Seen()

        return checked


def test_findings_are_memory_findings_by_kind_and_argument():
    """A launch that broke down is not asked whether it wrote all."""
    feed = fed(case_of(*ROWS), Idle(LAYER))
    with accesses.watching(feed, ZEROS, Seeing("seeing", "cpu")) as watch:
        pass
    found = watch.findings()
    assert [(f.check, f.kind) for f in found] == [
        (Check.MEMORY, "missing barrier: conv_pool"),
        (Check.MEMORY, "never written: out"),
    ]
    assert "file.py:3 in kernel" in found[0].message
    assert len(watch.findings(finished=False)) == 1


@pytest.mark.parametrize(("host", "wanted"), [(HOSTS["cpu"], True), (Seeing("seeing", "cpu"), False)])
def test_without_a_watch_nothing_changes(host, wanted):
    """On hosts that cannot watch, and where nobody wants it: the launch is the feed's own."""
    feed = fed(case_of(*ROWS), Idle(LAYER), Presentation(slot_pad=16))
    with accesses.watching(feed, ZEROS, host, wanted) as watch:
        assert watch.launch is feed.launch
    assert watch.findings() == []
