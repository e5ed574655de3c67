"""Did a kernel touch anything that it must not, whatever came of it? On a host that can watch each access.

What is known of a launch's tensors follows from the contract: inputs are not written; an output holds nothing until it
is; of a pool a launch reads the slots that its rows continue from and writes the slots that its rows name, and no
other. A path's scratch slot is anybody's. Padded inputs may be read: what they hold must not matter, which other checks
see.

Strided pools are presented with slots so far apart that the last one's offset takes more than 32 bits, which costs no
memory here (`gdn_verify.emulator.stretch`); strided activations, and outputs beside them, with tokens as far apart as
the path says that it takes (`Path.widest_token`).

In the catalogue of bugs: null-block-zero-guard, neg-index-oob, neg-index-clamped-to-live-slot, state-pool-offset-int32,
cast-after-multiply, conv-offsets-int32, gate-load-unmasked-past-K, recompute-w-u-leaves-elements,
kkt-upper-blocks-unwritten, chunk-count-underestimated, substitution-reads-past-T, conv-state-overwritten-while-read,
short-chunk-state-into-shared-prefix-block, reallocated-state-blocks-not-zeroed,
scratch-reuse-missing-threadgroup-barriers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gdn_verify.cases.case import Row
from gdn_verify.cases.contract import Conventions
from gdn_verify.checks.memory import writable
from gdn_verify.emulator.access import Access, Known
from gdn_verify.emulator.stretch import stretch
from gdn_verify.feed import Feed
from gdn_verify.hosts import Host
from gdn_verify.paths.base import Launch
from gdn_verify.verdict import Check, Finding

if TYPE_CHECKING:
    from gdn_verify.emulator.memory_check import Checker

POOLS = ("ssm_pool", "conv_pool")
OUTPUTS = ("out", "z_out")
TOKENS = ("qkvz", "ba", "mixed_qkv", "q", "k", "v", "g", "beta", "b", "a", "o", *OUTPUTS)
"""Tensors with an entry a token."""
ALIKE = 64
"""Token strides that are equal but for a multiple of this many elements are aligned alike."""


@dataclass(frozen=True)
class Watch:
    """A launch to be run under watch, and what the watch has seen: nothing where the host has none."""

    feed: Feed
    launch: Launch
    checker: Checker | None = None

    def findings(self, finished: bool = True) -> list[Finding]:
        """What was seen; and, of a launch that has `finished`, live outputs that no kernel wrote."""
        if self.checker is None:
            return []
        seen = self.checker.findings()
        return [_finding(access) for access in (*seen, *(self._unwritten(self.checker) if finished else ()))]

    def _unwritten(self, checker: Checker) -> Iterator[Access]:
        for name in OUTPUTS:
            tensor = self.feed.launch.get(name)
            if tensor is None:
                continue
            access = checker.unwritten(name, tensor, _live(self.feed, tensor))
            if access is not None:
                yield access


def _finding(access: Access) -> Finding:
    return Finding(Check.MEMORY, f"{access.fault}: {access.argument}", access.place)


@contextmanager
def watching(
    feed: Feed, conventions: Conventions, host: Host, wanted: bool = True, widest_token: int = 0
) -> Iterator[Watch]:
    """Watch what is launched within the block, if that is wanted and the host can; run the launch that it gives."""
    checked = host.memory_checker() if wanted else None
    if checked is None:
        yield Watch(feed, feed.launch)
        return
    with checked(known(feed, conventions)) as checker:
        yield Watch(feed, far_apart(feed, widest_token), checker)


def far_apart(feed: Feed, widest_token: int = 0) -> Launch:
    """The launch, its strided pools stretched, and its strided activations to about so many elements between tokens."""
    shown, tensors = feed.presentation, feed.launch.tensors
    found = {name: stretch(tensors[name]) for name in POOLS if shown.slot_pad and name in tensors}
    for name in TOKENS if shown.row_pad and widest_token else ():
        if (tensor := tensors.get(name)) is not None:
            found[name] = stretch(tensor, widest_token - (widest_token - tensor.stride(0)) % ALIKE)
    return replace(feed.launch, tensors={**tensors, **found}) if found else feed.launch


def known(feed: Feed, conventions: Conventions) -> list[Known]:
    """What the contract says of each tensor of a launch."""
    rows = [row for row in feed.batch.rows if not row.padded]
    named = {feed.physical(slot) for row in rows for slot in row.slots if slot is not None}
    found = []
    for name, tensor in feed.launch.tensors.items():
        everything = torch.ones(tensor.shape, dtype=torch.bool)
        if name in OUTPUTS:
            mask = writable(feed, conventions)[name].mask
            sealed = ~mask.reshape(*mask.shape, *(1,) * (tensor.dim() - mask.dim())).expand(tensor.shape)
            found.append(Known(name, tensor, unwritten=everything, sealed=sealed, loose=~_live(feed, tensor)))
        elif name in POOLS:
            read = {feed.physical(slot) for row in rows if (slot := _continued(row, name)) is not None}
            scratch = _slots(tensor, [] if conventions.scratch_slot is None else [conventions.scratch_slot])
            sealed = ~_slots(tensor, named) & ~scratch
            found.append(Known(name, tensor, ~_slots(tensor, read), sealed, free=scratch))
        else:
            found.append(Known(name, tensor, sealed=everything))
    return found


def _live(feed: Feed, output: Tensor) -> Tensor:
    """An output's elements of live tokens."""
    mask = torch.zeros(output.shape, dtype=torch.bool)
    mask[torch.from_numpy(feed.live_tokens)] = True
    return mask


def _continued(row: Row, pool: str) -> int | None:
    """The slot of a pool that a row continues from."""
    if row.fresh:
        return None
    if pool == "ssm_pool":
        return row.read_slot
    return row.conv_slot if row.read is None else row.read


def _slots(pool: Tensor, slots: Iterable[int]) -> Tensor:
    mask = torch.zeros(pool.shape, dtype=torch.bool)
    mask[list(slots)] = True
    return mask
