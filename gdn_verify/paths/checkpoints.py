"""A prefill that is resumed from its own checkpoint states, as a prefix cache does; all of it must be the prefill's.

A row of 64 tokens or more goes on from one of the states that the first launch has kept; what the two launches have
stored in the row's tokens and in its slot is judged as one prefill. A checkpoint is kept in float32, as the state is on
chip, at the end of a chunk: nothing is rounded that the first launch would not round.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import DType, Geometry, Group, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.chunk import ChunkDelta
from gdn_verify.paths.fallback import tables

if TYPE_CHECKING:
    from torch import Tensor

    from gdn_verify.kernels.rows import Tables
    from gdn_verify.kernels.triton.shape import Shape

EVERY = 64
"""Tokens from checkpoint to checkpoint."""
Tail = tuple[int, int, int, int]
"""Of a row that is resumed: its number, its first token there, the one behind its last, and the entry of the state."""


class ChunkDeltaCheckpoints(ChunkDelta):
    """`chunk_delta` of unit vectors with checkpoint states, and once more from them."""

    name = "chunk-delta-checkpoints"
    variant = True
    checkpoints = True
    entries = ()  # what is judged is moved into place after the calls
    least_reach = 0.05
    hopper_reach = 0.0  # float32 states, prompts and Hopper's sizes do not meet in the probes
    capabilities = replace(
        ChunkDelta.capabilities, span=Span(Stage.DELTA, Stage.DELTA, qk_normalised=True),
        groups=frozenset({Group.PREFILL}), states=frozenset({DType.F32}),
    )  # fmt: skip

    def captures(self, launch: Launch) -> bool:
        """Where a row goes on is decided on the host."""
        return False

    def run(self, launch: Launch) -> Outputs:
        import torch

        operands, pool, out = [launch[name] for name in ("q", "k", "v", "g", "beta")], launch["ssm_pool"], launch["out"]
        shape = self._forced(launch, *operands[:2])
        # NaN, as what is not written may by chance be a state that does: zeros are one once all is forgotten.
        kept = pool.new_full((out.shape[0] // EVERY, *pool.shape[1:]), torch.nan)
        self._call(launch, operands, pool, tables(launch), out, shape, checkpoints=kept, checkpoint_every=EVERY)
        tails = list(_tails(launch, pool.shape[0]))
        if not tails:
            return Outputs(o=out)
        token = torch.cat([torch.arange(begin, stop, device=out.device) for _, begin, stop, _ in tails])
        entries = torch.tensor([entry for *_, entry in tails], device=out.device)
        rows = torch.tensor([row for row, *_ in tails], device=out.device)
        again, states = out.new_empty(len(token), *out.shape[1:]), kept[entries]
        self._call(launch, [x[token] for x in operands], states, _behind(tails, out), again, shape)
        out[token] = again
        pool[launch["state_indices"][rows].long()] = states
        return Outputs(o=out)

    def _forced(self, launch: Launch, q: Tensor, k: Tensor) -> Shape | None:
        """The configuration's for both launches; without one, what suits both where they would choose two shapes.

        The second has its operands dense.
        """
        from gdn_verify.kernels.triton.shape import moves_in_words

        g = launch.geometry
        in_words = moves_in_words(q, k) and _dense_in_words(g)
        if in_words and not self.settings:
            return None
        return self._shape(g, self._is_exact(launch.dtypes.activation), in_words=in_words)

    def _in_words(self, case: Case, presentation: Presentation) -> bool:
        return super()._in_words(case, presentation) and _dense_in_words(case.geometry)

    def _call(
        self, launch: Launch, operands: list[Tensor], pool: Tensor, rows: Tables, out: Tensor, shape: Shape | None,
        *, checkpoints: Tensor | None = None, checkpoint_every: int = 0,
    ) -> None:  # fmt: skip
        from gdn_verify.kernels.triton.chunk import chunk_delta

        q, k, v, g, beta = operands
        chunk_delta(
            q, k, v, g, beta, pool, rows, scale=launch.options.scale, qk_norm=False, output=out, shape=shape,
            state_order=launch.presentation.state_order.value, checkpoints=checkpoints,
            checkpoint_every=checkpoint_every,
        )  # fmt: skip


def _dense_in_words(g: Geometry) -> bool:
    from gdn_verify.kernels.triton.shape import lie_in_words

    return lie_in_words(g.H * g.K, g.K)


def _tails(launch: Launch, slots: int) -> Iterable[Tail]:
    """Live rows that have a checkpoint, each resumed from one of its own: which one goes round with its number."""
    bounds, own = launch["query_start_loc"].tolist(), launch["state_indices"].tolist()
    for row, (first, stop) in enumerate(pairwise(bounds)):
        if 0 <= own[row] < slots and (most := (stop - first) // EVERY):
            number = row % most + 1
            yield row, first + number * EVERY, stop, first // EVERY + number - 1


def _behind(tails: list[Tail], out: Tensor) -> Tables:
    """The tables of the second launch: a slot for each tail, in order."""
    import torch

    from gdn_verify.kernels.rows import Tables

    ends = torch.tensor([0, *(stop - begin for _, begin, stop, _ in tails)]).cumsum(0)
    return Tables(
        query_start_loc=ends.to(out.device, torch.int32),
        state_indices=torch.arange(len(tails), dtype=torch.int32, device=out.device),
        has_initial_state=torch.ones(len(tails), dtype=torch.bool, device=out.device),
    )


def paths() -> Iterable[ChunkDeltaCheckpoints]:
    """The one."""
    return (ChunkDeltaCheckpoints(),)
