"""Single defects for the laws to find, planted in a copy of the fallback by changing what goes in or comes out.

Each is a function from a path to a defective `run`, as in `gdn_verify.mutants.planted`. Those that are like bugs of the
catalogue are in `gdn_verify.mutants`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from unittest.mock import patch

import torch
from torch import Tensor

from gdn_verify.cases.contract import StateOrder
from gdn_verify.mutants import CATALOGUE, laws
from gdn_verify.mutants.conv_states import state_sliced_as_one_block
from gdn_verify.mutants.handover import one_token_chunk_as_decode
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


def _accepted_is_always_one(launch: Launch) -> Mapping[str, Tensor]:
    counts = launch.get("num_accepted_tokens")
    return {} if counts is None else {"num_accepted_tokens": counts.clamp(max=1)}


def _after(change: Callable[[Launch, Tensor], Tensor]) -> Callable[[Path], Run]:
    """A defect that is a change of the outputs."""

    def plant(path: Path) -> Run:
        def run(launch: Launch) -> Outputs:
            outputs = path.run(launch)
            launch["out"].copy_(change(launch, launch["out"]))
            return replace(outputs, o=launch["out"])

        return run

    return plant


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


DEFECTS: dict[str, Callable[[Path], Run]] = {
    **{name: getattr(laws, name) for name in CATALOGUE["laws"]},
    "one_token_chunk_as_decode": one_token_chunk_as_decode,
    "state_sliced_as_one_block": state_sliced_as_one_block,
    "value heads read the next key head": wrong_head_map,
    "drafts have another scale": _options(_drafts_have_another_scale),
    "v is offset": _after(lambda launch, out: out + 0.01),
    "states are clamped": _clamped_states,
    "β is never 0": _gates(lambda g, beta: (g, beta.clamp(min=2.0**-10))),
    "decays are bounded": _gates(lambda g, beta: (g.clamp(min=-5.0), beta)),
    "results differ from launch to launch": _after(_an_ulp_by_chance),
    "a draft's accepted count is not read": on_tensors(_accepted_is_always_one),
    "a state's axes are taken for each other": _other_axes,
}
"""Mutants of the catalogue by their names, and others."""
