"""`chunk_gated_delta_rule` with `state_checkpoints`, and once more from them, as a prefix cache does.

A row of more than 64 tokens goes on from one of the states that the first launch has kept; what the two launches store
is judged as one prompt. Those states are float32, as on chip, so that nothing is rounded that one launch would not
round. vLLM 0.33.0 asks for such checkpoints (`qwen_gdn_linear_attn.py:1837`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from gdn_verify.cases.contract import Group
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.flashinfer.base import F32
from gdn_verify.paths.flashinfer.prefill import Chunk, prompt

if TYPE_CHECKING:
    from torch import Tensor

EVERY = 64
"""Tokens from checkpoint to checkpoint, the fewest that are taken (gdn_prefill.py:808)."""


class Tail(NamedTuple):
    """Of a row that is resumed: its number, its first token there, the one behind its last, and the state's entry."""

    row: int
    begin: int
    stop: int
    entry: int


class ChunkCheckpoints(Chunk):
    """Dense states, q and k of unit length, and every 64th state kept."""

    name = "flashinfer-chunk-checkpoints"
    variant = True
    entries = ()  # what is judged is moved into place after the calls
    capabilities = replace(Chunk.capabilities, groups=frozenset({Group.PREFILL}), states=F32)

    def run(self, launch: Launch) -> Outputs:
        import torch

        lengths = [row.tokens for row in launch.batch.rows]
        counts = [0, *accumulate(length // EVERY for length in lengths)]
        tails = list(_tails(launch.batch.query_start_loc, counts))
        if not tails:
            return super().run(launch)
        operands, out, before = prompt(launch), launch["out"], launch["initial_state"].contiguous()
        after = before.new_full(before.shape, float("nan"))
        kept = before.new_full((counts[-1], *before.shape[1:]), float("nan"))
        starts = launch["query_start_loc"]
        self.call(
            launch, operands, starts, out, before, after, state_checkpoints=kept, checkpoint_every_n_tokens=EVERY,
            checkpoint_cu_starts=torch.tensor(counts, dtype=starts.dtype, device=out.device),
        )  # fmt: skip
        self._resume(launch, operands, tails, kept, after)
        return Outputs(o=out, final_state=after)

    def _resume(
        self, launch: Launch, operands: dict[str, Tensor], tails: list[Tail], kept: Tensor, after: Tensor
    ) -> None:
        """Compute the tails again, from the states kept, and put their outputs and states in the place of the first."""
        import torch

        out, device = launch["out"], launch["out"].device
        tokens = torch.cat([torch.arange(tail.begin, tail.stop, device=device) for tail in tails])
        ends = [0, *accumulate(tail.stop - tail.begin for tail in tails)]
        entries = torch.tensor([tail.entry for tail in tails], device=device)
        again = out.new_full((len(tokens), *out.shape[1:]), float("nan"))
        states = after.new_full((len(tails), *after.shape[1:]), float("nan"))
        starts = torch.tensor(ends, dtype=launch["query_start_loc"].dtype, device=device)
        self.call(
            launch, {name: x[tokens] for name, x in operands.items()}, starts, again, kept[entries], states
        )  # fmt: skip
        out[tokens] = again
        after[torch.tensor([tail.row for tail in tails], device=device)] = states


def _tails(starts: tuple[int, ...], counts: list[int]) -> Iterable[Tail]:
    """Of rows longer than the least: from which of their checkpoints they go on goes round with their number."""
    for row, (first, stop) in enumerate(pairwise(starts)):
        if (most := (stop - first - 1) // EVERY) > 0:  # a tail has a token
            number = row % most
            yield Tail(row, first + (number + 1) * EVERY, stop, counts[row] + number)
