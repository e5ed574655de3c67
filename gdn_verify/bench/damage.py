"""What every judge of the bench looks at: bytes that were nobody's to write, shapes, the largest error in budgets."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gdn_verify.bench.contender import AnyInputs, Contender, Results
from gdn_verify.cases.contract import DType


@dataclass(frozen=True)
class Judgement:
    """Whether a launch agreed; the largest ratio of error to budget and its limit, and what was wrong otherwise.

    `heads` is how many value heads were held to the equations, 0 for all.
    """

    agrees: bool
    ratio: float = 0.0
    limit: float = 0.0
    words: str = ""
    heads: int = 0


def overwritten(given: AnyInputs, used: AnyInputs, writable: Collection[str]) -> Iterator[str]:
    """Inputs that a launch changed."""
    for field in fields(given):
        before, after = getattr(given, field.name), getattr(used, field.name)
        if isinstance(before, Tensor) and field.name not in writable and not torch.equal(before, after):
            yield f"{field.name} was written to; it is an input"


def strayed(contender: Contender, given: AnyInputs, used: AnyInputs, results: Results) -> Iterator[str]:
    """Slots that no row names and that changed, and results of another shape or in another place."""
    free = torch.ones(len(given.pool), dtype=torch.bool, device=given.pool.device)
    if contender.in_place:
        free[given.state_indices.flatten().long()] = False
    if not torch.equal(used.pool[free], given.pool[free]):
        yield "pool was written to in slots that no row names" if contender.in_place else "pool was written to"
    if results.out.shape != given.out.shape:
        yield f"out has shape {tuple(results.out.shape)}, expected {tuple(given.out.shape)}"
    if contender.in_place != (results.states is None):
        yield "Results.states are for a contender that is not in place, and only for one"


def worse(worst: Judgement, name: str, ratios: Tensor, start: int = 0) -> Judgement:
    """The worse of a judgement and of the largest of these ratios; `start` is the first index within the result."""
    ratio, place = ratios.nan_to_num(nan=torch.inf).flatten().max(0)
    if ratio <= worst.ratio:
        return worst
    index = [int(i) for i in torch.unravel_index(place, ratios.shape)]
    words = f"{name}[{start + index[0]}, {', '.join(map(str, index[1:]))}]"
    return Judgement(bool(ratio <= worst.limit), float(ratio), worst.limit, words, worst.heads)


def budget(value: Tensor, squares: Tensor, stored: DType) -> Tensor:
    """The root of a row's mean square of moves, with the rounding of the stored row: its numbers are the last axis."""
    floor = stored.underflow**2 * value.shape[-1]
    return (squares + stored.unit_roundoff**2 * value.square().sum(-1) + floor).sqrt()
