"""Single defects for the laws to find, planted in a copy of the fallback by changing what goes in or comes out.

Each is a function from a path to a defective `run`, as in `gdn_verify.mutants.planted`. Most bear the name of a bug
that shipped in some public implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count, pairwise
from unittest.mock import patch

import torch
from torch import Tensor

from gdn_verify.cases.contract import StateOrder
from gdn_verify.mutants.conv_states import state_sliced_as_one_block
from gdn_verify.mutants.planted import wrong_head_map
from gdn_verify.paths.base import Launch, Outputs, Path

Run = Callable[[Launch], Outputs]


def with_tensors(launch: Launch, **changed: Tensor) -> Launch:
    """The launch with other tensors of these names."""
    return replace(launch, tensors={**launch.tensors, **changed})


def on_tensors(change: Callable[[Launch], Mapping[str, Tensor]]) -> Callable[[Path], Run]:
    """A defect that is a change of tensors on their way in."""

    def plant(path: Path) -> Run:
        return lambda launch: path.run(with_tensors(launch, **change(launch)))

    return plant


def lengths(launch: Launch) -> Tensor:
    return launch["query_start_loc"].diff()


def drafts(launch: Launch) -> Tensor:
    spec = launch.get("spec_rows")
    return torch.zeros(len(lengths(launch)), dtype=torch.bool) if spec is None else spec


def _resumed_prompts_lose_their_state(launch: Launch) -> Mapping[str, Tensor]:
    long = (lengths(launch) > 1) & ~drafts(launch)
    return {"has_initial_state": launch["has_initial_state"] & ~long}


def _one_token_is_a_decode(launch: Launch) -> Mapping[str, Tensor]:
    return {"has_initial_state": launch["has_initial_state"] | (lengths(launch) == 1)}


def _slot_zero_is_nobodys(launch: Launch) -> Mapping[str, Tensor]:
    slots = launch["state_indices"]
    return {"state_indices": torch.where(slots == 0, launch.presentation.sentinel, slots)}


def _accepted_is_always_one(launch: Launch) -> Mapping[str, Tensor]:
    counts = launch.get("num_accepted_tokens")
    return {} if counts is None else {"num_accepted_tokens": counts.clamp(max=1)}


def _compact_projections(launch: Launch) -> Mapping[str, Tensor]:
    ba = launch["ba"]
    return {"ba": ba.as_strided(ba.shape, (ba.shape[1], 1)) if len(ba) > 1 else ba}


def _states_of_the_row_before(path: Path) -> Run:
    """A row goes on from the state of the row before it."""

    def run(launch: Launch) -> Outputs:
        slots = [(n, row.written[0]) for n, row in enumerate(launch.batch.rows) if row.live and row.written]
        pool, known = launch["ssm_pool"], launch["has_initial_state"].clone()
        place = launch.presentation.physical
        for (_, before), (n, own) in reversed([*pairwise(slots)]):
            if launch.batch.rows[n].read is None and not launch.batch.rows[n].spec and known[n]:
                pool[place(own)] = pool[place(before)]
        return path.run(with_tensors(launch, has_initial_state=known))

    return run


def _after(change: Callable[[Launch, Tensor], Tensor]) -> Callable[[Path], Run]:
    """A defect that is a change of the outputs."""

    def plant(path: Path) -> Run:
        def run(launch: Launch) -> Outputs:
            outputs = path.run(launch)
            launch["out"].copy_(change(launch, launch["out"]))
            return replace(outputs, o=launch["out"])

        return run

    return plant


def _an_ulp_of_the_last_token(launch: Launch, out: Tensor) -> Tensor:
    """Every output errs by an ulp if the row's last token has one sign, which no budget sees."""
    made = out.clone()
    for first, last in zip(launch["query_start_loc"].tolist(), launch["query_start_loc"][1:].tolist(), strict=False):
        if last > first and launch["ba"][last - 1].float().sum() > 0:
            made[first:last] = out[first:last] * (1 + torch.finfo(out.dtype).eps)
    return made


_calls = count()


def _an_ulp_by_chance(launch: Launch, out: Tensor) -> Tensor:
    return out * (1 + torch.finfo(out.dtype).eps * (next(_calls) % 3))


def _gates(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[[Path], Run]:
    """A defect of g and β, inside the fallback."""

    def plant(path: Path) -> Run:
        from gdn_verify.kernels import fallback

        right = fallback.gates

        def gates(*args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
            return change(*right(*args, **kwargs))  # type: ignore[arg-type]

        def run(launch: Launch) -> Outputs:
            with patch.object(fallback, "gates", gates):
                return path.run(launch)

        return run

    return plant


def _options(change: Callable[[Launch], Mapping[str, object]]) -> Callable[[Path], Run]:
    def plant(path: Path) -> Run:
        return lambda launch: path.run(replace(launch, options=replace(launch.options, **change(launch))))  # type: ignore[arg-type]

    return plant


def _drafts_have_another_scale(launch: Launch) -> Mapping[str, object]:
    scale = launch.options.q_scale(launch.geometry)
    return {"scale": scale * (1.01 if bool(drafts(launch).any()) else 1.0)}


def _clamped_states(path: Path) -> Run:
    """States beyond ±1 are clamped when they are read."""

    def run(launch: Launch) -> Outputs:
        for row in launch.batch.rows:
            if row.live and not row.fresh and row.read_slot is not None:
                launch["ssm_pool"][launch.presentation.physical(row.read_slot)].clamp_(-1.0, 1.0)
        return path.run(launch)

    return run


def _other_axes(path: Path) -> Run:
    """A state's axes are taken for each other where K = V, wherever it comes from."""

    def run(launch: Launch) -> Outputs:
        if launch.geometry.K != launch.geometry.V:
            return path.run(launch)
        other = StateOrder.KV if launch.presentation.state_order is StateOrder.VK else StateOrder.VK
        return path.run(replace(launch, presentation=replace(launch.presentation, state_order=other)))

    return run


def _counted_twice(path: Path) -> Run:
    """A prompt of two segments (of 3 tokens) or more starts from twice its state."""

    def run(launch: Launch) -> Outputs:
        for row in launch.batch.rows:
            if row.live and not row.fresh and not row.spec and row.tokens > 3 and row.read_slot is not None:
                launch["ssm_pool"][launch.presentation.physical(row.read_slot)] *= 2
        return path.run(launch)

    return run


def _padding_moves_the_state(path: Path) -> Run:
    """Padded tokens behind the last row are the last row's."""

    def run(launch: Launch) -> Outputs:
        starts = launch["query_start_loc"].clone()
        row = launch.batch.rows[-1]
        if not row.spec and row.live:
            starts[-1] += launch.batch.pad_tokens
            for name in ("qkvz", "ba"):
                tail = launch[name][len(launch[name]) - launch.batch.pad_tokens :]
                tail.fill_(0.5)
        return path.run(with_tensors(launch, query_start_loc=starts))

    return run


def _reversed_group(launch: Launch, out: Tensor) -> Tensor:
    """In a mixed launch, the one-token rows' results stand in reverse order."""
    starts, ones = launch["query_start_loc"][:-1], lengths(launch) == 1
    if not bool(ones.any()) or bool(ones.all()):
        return out
    made = out.clone()
    made[starts[ones].long()] = out[starts[ones].long()].flip(0)
    return made


def _late_state(path: Path) -> Run:
    """The state stored of a row behind the first is the one before its last token."""

    def run(launch: Launch) -> Outputs:
        late = [
            (n, row) for n, row in enumerate(launch.batch.rows) if n and row.live and not row.spec and row.tokens > 1
        ]
        early, pools = launch["ba"].clone(), {name: launch[name].clone() for name in ("ssm_pool", "conv_pool")}
        for n, _ in late:
            early[launch["query_start_loc"][n + 1] - 1] = -120.0  # nothing decays, nothing is written
        spare = {name: torch.empty_like(launch[name]) for name in ("out", "z_out")}
        path.run(with_tensors(launch, ba=early, **pools, **spare))
        outputs = path.run(launch)
        for _, row in late:
            slot = launch.presentation.physical(row.written[0])
            launch["ssm_pool"][slot] = pools["ssm_pool"][slot]
        return outputs

    return run


DEFECTS: dict[str, Callable[[Path], Run]] = {
    "s0-counted-twice-in-parallel-scan": _counted_twice,
    "precopy-skipped-on-chunk-continuation": on_tensors(_resumed_prompts_lose_their_state),
    "snapshot-index-grid-mismatch": _late_state,
    "cu-seqlens-reaches-conv-but-not-recurrence": _states_of_the_row_before,
    "prompt-tail-padded-to-k-plus-1": _padding_moves_the_state,
    "unstable-argsort-of-spec-mask": _after(_reversed_group),
    "slot0-valid-but-treated-as-null": on_tensors(_slot_zero_is_nobodys),
    "noncausal-anchor": _after(_an_ulp_of_the_last_token),
    "value heads read the next key head": wrong_head_map,
    "drafts have another scale": _options(_drafts_have_another_scale),
    "one-token-first-chunk-run-as-decode": on_tensors(_one_token_is_a_decode),
    "v is offset": _after(lambda launch, out: out + 0.01),
    "states are clamped": _clamped_states,
    "scale-zero-sentinel": _options(lambda launch: {"scale": launch.options.scale or None}),
    "conv-state-sliced-as-one-block": state_sliced_as_one_block,
    "zero-gate-difference-dropped": _gates(lambda g, beta: (torch.where(g > -1e-30, -200.0, g), beta)),
    "β is never 0": _gates(lambda g, beta: (g, beta.clamp(min=2.0**-10))),
    "decays are bounded": _gates(lambda g, beta: (g.clamp(min=-5.0), beta)),
    "results differ from launch to launch": _after(_an_ulp_by_chance),
    "compact-layout-assumed-for-packed-qkv": on_tensors(_compact_projections),
    "a draft's accepted count is not read": on_tensors(_accepted_is_always_one),
    "a state's axes are taken for each other": _other_axes,
}
