"""Did anything change that must not, was everything written that must be, are copies exact to the bit?

In the catalogue of bugs: oversized-conv-state-reads-head-not-tail, spec-pool-column-slice-missing,
token-indexed-vs-sliding-window-conv-state, state-len-from-stride, shortconv-batch1-and-history-loss,
short-chunk-state-into-shared-prefix-block, fused-kernel-swap-drops-spec-flags, z-tail-dropped-for-ratio-3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdn_verify.arena import MemoryFinding, Writable
from gdn_verify.cases.contract import Conventions, PadPolicy
from gdn_verify.cases.presentation import Poison
from gdn_verify.checks.question import history_of, written
from gdn_verify.feed import Feed, Pools
from gdn_verify.oracles.stages import next_conv_state
from gdn_verify.verdict import Check, Finding

_BITS: dict[int, type[np.generic]] = {2: np.uint16, 4: np.uint32}


def judge(feed: Feed, conventions: Conventions, after: Pools, final_state: Tensor | None = None) -> list[Finding]:
    """Memory findings of one launch, but for `unwritten`: bytes that changed, copies that differ, padding not zero."""
    found = [_finding("changed", item) for item in feed.arena.violations(writable(feed, conventions))]
    found += list(_conv_states(feed, after))
    found += list(_idle_states(feed, final_state))
    found += list(_passed_through(feed, conventions))
    found += list(_pad_outputs(feed, conventions))
    return found


def _finding(kind: str, item: MemoryFinding) -> Finding:
    return Finding(Check.MEMORY, f"{kind} {item.buffer}", str(item))


def _outputs(feed: Feed) -> list[str]:
    return [name for name in ("out", "z_out") if name in feed.launch.tensors]


def _live_mask(feed: Feed) -> Tensor:
    mask = torch.zeros(feed.batch.tokens + feed.batch.pad_tokens, dtype=torch.bool)
    mask[torch.from_numpy(feed.live_tokens)] = True
    return mask


def unwritten(feed: Feed, again: Callable[[Poison], Feed]) -> list[Finding]:
    """Live output elements that were never written: they still hold the poison.

    Only a NaN pattern is proof. Under a finite poison an honest 16-bit result can equal the pattern, so on suspicion
    the launch is run `again` under NaN, and an element counts if it then holds that.
    """
    suspects = {name: items for name in _outputs(feed) if (items := _still_poisoned(feed, name))}
    if suspects and feed.presentation.poison is not Poison.NAN:
        second = again(Poison.NAN)
        suspects = {name: _still_poisoned(second, name, also=feed.arena.still_poisoned(name)) for name in suspects}
    return [_finding("unwritten", item) for items in suspects.values() for item in items]


def _still_poisoned(feed: Feed, name: str, also: Tensor | None = None) -> list[MemoryFinding]:
    return feed.arena.unwritten(name, _live_mask(feed).to(feed.arena.device), also=also)


def writable(feed: Feed, conventions: Conventions) -> dict[str, Writable]:
    """What of each buffer a launch may change."""
    allowed = {name: _writable_output(feed, conventions, name) for name in _outputs(feed)}
    tensors = feed.launch.tensors
    if "ssm_pool" in tensors:
        slots = {feed.physical(state.slot) for state in written(feed, every_token=False)}
        slots |= set() if conventions.scratch_slot is None else {conventions.scratch_slot}
        allowed["ssm_pool"] = Writable.slots(len(tensors["ssm_pool"]), slots)
    if "conv_pool" in tensors:
        allowed["conv_pool"] = Writable(_conv_columns(feed, len(tensors["conv_pool"])))
    return allowed


def _writable_output(feed: Feed, conventions: Conventions, name: str) -> Writable:
    if conventions.pad_output(name) is PadPolicy.UNTOUCHED:
        return Writable(_live_mask(feed))
    return Writable.ALL


def _conv_columns(feed: Feed, slots: int) -> Tensor:
    """[P, 1, C]: columns that a launch writes, per slot; the rest keep their bytes."""
    g = feed.case.geometry
    mask = torch.zeros(slots, 1, g.C, dtype=torch.bool)
    for _, row in feed.batch.live_rows():
        assert row.conv_slot is not None
        columns = g.W - 2 + row.tokens if row.spec else g.W - 1
        mask[feed.physical(row.conv_slot), :, :columns] = True
    return mask


def _conv_states(feed: Feed, after: Pools) -> Iterator[Finding]:
    """A conv state is a copy of inputs: equal to the bit."""
    before = feed.before.conv
    if before is None or after.conv is None:
        return
    starts = feed.batch.query_start_loc
    for number, row in feed.batch.live_rows():
        assert row.conv_slot is not None
        slot = feed.physical(row.conv_slot)
        old = before[slot].clone()
        if not row.spec:
            old[:, : feed.case.geometry.W - 1] = history_of(feed, row)
        x = feed.rounded["x"][starts[number] : starts[number + 1]].to(before.dtype)
        want = next_conv_state(_bits(old), _bits(x), feed.case.geometry.W, True, row.accepted)
        yield from _different("conv state", f"row {number}, slot {slot}", want, _bits(after.conv[slot]))


def _idle_states(feed: Feed, final_state: Tensor | None) -> Iterator[Finding]:
    """A dense row without tokens gets back the state that it gave."""
    idle = [number for number, row in enumerate(feed.batch.rows) if row.tokens == 0]
    if final_state is None or not idle or len(final_state) != len(feed.batch.rows):
        return
    want, got = feed.launch["initial_state"][idle].double().cpu(), final_state[idle].double().cpu()
    if not torch.equal(want, got):
        row = idle[int((want != got).flatten(1).any(dim=1).nonzero()[0])]
        yield Finding(Check.MEMORY, "state of an idle row", f"row {row} has no token, and its final state has changed")


def _passed_through(feed: Feed, conventions: Conventions) -> Iterator[Finding]:
    """z leaves the unpack stage as it came, for live tokens; what padding holds is the path's to declare."""
    if "z_out" in feed.launch.tensors:
        every = conventions.pad_output("z_out") is PadPolicy.COPIES
        tokens, where = (slice(None), "all tokens") if every else (torch.from_numpy(feed.live_tokens), "live tokens")
        got = feed.launch["z_out"].cpu()
        yield from _different("z", where, _bits(feed.rounded["z"][tokens]), _bits(got[tokens]))


def _pad_outputs(feed: Feed, conventions: Conventions) -> Iterator[Finding]:
    """Where a path promises zeros for padded rows and tokens, they are zeros."""
    padded = ~_live_mask(feed)
    for name in _outputs(feed):
        if conventions.pad_output(name) is PadPolicy.ZEROS and bool(padded.any()):
            got = feed.launch[name].cpu()[padded]
            if not bool((got == 0).all()):
                yield Finding(
                    Check.MEMORY, f"padding of {name}", f"{name} of a padded token is not zero: {got[got != 0][0]}"
                )


def padded_stages(feed: Feed, conventions: Conventions, stages: Mapping[str, Tensor]) -> list[Finding]:
    """Of shown stages that a path promises to be zeros where rows are padded, those that are not.

    Tokens behind the last row belong to nobody, and are not asked.
    """
    rows = torch.tensor([row.padded for row in feed.batch.rows], dtype=torch.bool)
    lengths = torch.tensor([row.tokens for row in feed.batch.rows], dtype=torch.int64)
    padded = rows.repeat_interleave(lengths).nonzero()[:, 0]
    promised = {name: stage for name, stage in stages.items() if conventions.pad_output(name) is PadPolicy.ZEROS}
    nonzero = {name: got[got != 0] for name, stage in promised.items() for got in [stage.detach().cpu()[padded]]}
    return [
        Finding(Check.MEMORY, f"padding of {name}", f"{name} of a padded row is not zero: {found[0]}")
        for name, found in nonzero.items()
        if found.numel()
    ]


def _bits(tensor: Tensor) -> NDArray[np.generic]:
    """The bit patterns, so that equal means equal."""
    tensor = tensor.detach().cpu().contiguous()
    carrier = torch.int16 if tensor.element_size() == 2 else torch.int32
    return tensor.view(carrier).numpy().view(_BITS[tensor.element_size()])


def _different(what: str, where: str, want: NDArray[np.generic], got: NDArray[np.generic]) -> Iterator[Finding]:
    wrong = want != got
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        bits = f"expected bits {int(want[place]):#x}, got {int(got[place]):#x}"
        message = f"{what} of {where} is no exact copy: element {place}: {bits}; {int(wrong.sum())} elements differ"
        yield Finding(Check.MEMORY, f"copy of {what}", message)
