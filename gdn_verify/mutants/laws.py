"""Defects that launches show by what binds them to each other, planted by changing what goes in or comes out.

Each is a function from a path of the whole layer core to a defective `run`, and the like of a bug of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.replaced import Function, replaced
from gdn_verify.paths.base import Launch, Outputs, Path

SEGMENT = 3
"""Tokens of a segment, where a prompt is cut into them."""


def _given(path: Path, change: Callable[[Launch], Mapping[str, Tensor]]) -> Run:
    """The path with tensors changed on their way in."""
    return lambda launch: path.run(_with(launch, change(launch)))


def _with(launch: Launch, tensors: Mapping[str, Tensor]) -> Launch:
    return replace(launch, tensors={**launch.tensors, **tensors})


def _made(path: Path, change: Callable[[Launch, Tensor], Tensor]) -> Run:
    """The path with its outputs changed."""

    def run(launch: Launch) -> Outputs:
        outputs = path.run(launch)
        launch["out"].copy_(change(launch, launch["out"]))
        return replace(outputs, o=launch["out"])

    return run


def _lengths(launch: Launch) -> Tensor:
    return launch["query_start_loc"].diff()


def _drafts(launch: Launch) -> Tensor:
    spec = launch.get("spec_rows")
    return torch.zeros(len(_lengths(launch)), dtype=torch.bool) if spec is None else spec


def resumed_prompts_lose_their_state(path: Path) -> Run:
    """A prompt that goes on starts from zeros."""

    def known(launch: Launch) -> Mapping[str, Tensor]:
        long = (_lengths(launch) > 1) & ~_drafts(launch)
        return {"has_initial_state": launch["has_initial_state"] & ~long}

    return _given(path, known)


def slot_zero_is_nobodys(path: Path) -> Run:
    """Slot 0 marks padding, whatever the launch was told."""

    def slots(launch: Launch) -> Mapping[str, Tensor]:
        slots = launch["state_indices"]
        return {"state_indices": torch.where(slots == 0, launch.presentation.sentinel, slots)}

    return _given(path, slots)


def compact_projections(path: Path) -> Run:
    """b and a are read as if rows of them followed each other."""

    def packed(launch: Launch) -> Mapping[str, Tensor]:
        ba = launch["ba"]
        return {"ba": ba.as_strided(ba.shape, (ba.shape[1], 1)) if len(ba) > 1 else ba}

    return _given(path, packed)


def scale_of_zero_is_the_default(path: Path) -> Run:
    """A scale of 0 is taken for none given."""

    def run(launch: Launch) -> Outputs:
        return path.run(replace(launch, options=replace(launch.options, scale=launch.options.scale or None)))

    return run


def no_decay_is_full_decay(path: Path) -> Run:
    """A token that decays nothing forgets everything."""

    def wrong(right: Function, launch: Launch) -> Function:
        def gates(*args: object) -> tuple[Tensor, Tensor]:
            g, beta = right(*args)
            return torch.where(g > -1e-30, -200.0, g), beta

        return gates

    return replaced(path, {"fallback.gates": wrong})


def ulp_of_the_last_token(path: Path) -> Run:
    """Every output errs by an ulp if the row's last token has one sign, which no budget sees."""

    def change(launch: Launch, out: Tensor) -> Tensor:
        made, starts = out.clone(), launch["query_start_loc"].tolist()
        for first, last in pairwise(starts):
            if last > first and launch["ba"][last - 1].float().sum() > 0:
                made[first:last] = out[first:last] * (1 + torch.finfo(out.dtype).eps)
        return made

    return _made(path, change)


def single_tokens_reversed(path: Path) -> Run:
    """In a mixed launch, the one-token rows' results stand in reverse order."""

    def change(launch: Launch, out: Tensor) -> Tensor:
        starts, ones = launch["query_start_loc"][:-1], _lengths(launch) == 1
        if not bool(ones.any()) or bool(ones.all()):
            return out
        made = out.clone()
        made[starts[ones].long()] = out[starts[ones].long()].flip(0)
        return made

    return _made(path, change)


def state_of_the_row_before(path: Path) -> Run:
    """A row goes on from the state of the row before it."""

    def run(launch: Launch) -> Outputs:
        slots = [(n, row.written[0]) for n, row in enumerate(launch.batch.rows) if row.live and row.written]
        pool, known = launch["ssm_pool"], launch["has_initial_state"].clone()
        place = launch.presentation.physical
        for (_, before), (n, own) in reversed([*pairwise(slots)]):
            if launch.batch.rows[n].read is None and not launch.batch.rows[n].spec and known[n]:
                pool[place(own)] = pool[place(before)]
        return path.run(_with(launch, {"has_initial_state": known}))

    return run


def state_counted_twice(path: Path) -> Run:
    """A prompt of two segments or more starts from twice its state."""

    def run(launch: Launch) -> Outputs:
        for row in launch.batch.rows:
            if row.live and not row.fresh and not row.spec and row.tokens > SEGMENT and row.read_slot is not None:
                launch["ssm_pool"][launch.presentation.physical(row.read_slot)] *= 2
        return path.run(launch)

    return run


def filling_moves_the_state(path: Path) -> Run:
    """Padded tokens behind the last row are the last row's."""

    def run(launch: Launch) -> Outputs:
        own = {name: launch[name].clone() for name in ("query_start_loc", "qkvz", "ba")}
        rows = launch.batch.rows
        if rows and rows[-1].live and not rows[-1].spec:
            own["query_start_loc"][-1] += launch.batch.pad_tokens
            for name in ("qkvz", "ba"):
                own[name][len(own[name]) - launch.batch.pad_tokens :] = 0.5  # finite, where padding may hold NaN
        return path.run(_with(launch, own))

    return run


def state_before_the_last_token(path: Path) -> Run:
    """The state stored of a row behind the first is the one before its last token."""

    def run(launch: Launch) -> Outputs:
        rows = enumerate(launch.batch.rows)
        late = [(n, row) for n, row in rows if n and row.live and not row.spec and row.tokens > 1]
        early, pools = launch["ba"].clone(), {name: launch[name].clone() for name in ("ssm_pool", "conv_pool")}
        for n, _ in late:
            early[launch["query_start_loc"][n + 1] - 1] = -120.0  # nothing decays, nothing is written
        spare = {name: torch.empty_like(launch[name]) for name in ("out", "z_out")}
        path.run(_with(launch, {"ba": early, **pools, **spare}))
        outputs = path.run(launch)
        for _, row in late:
            slot = launch.presentation.physical(row.written[0])
            launch["ssm_pool"][slot] = pools["ssm_pool"][slot]
        return outputs

    return run
