"""Relays: paths that hand requests to each other, launch by launch, through the layout that both declare.

What one path writes another reads: a prompt on the chunk kernels, its decode steps on a fused one, drafts on a third.
Each launch of a case goes to the next path in turn among those that take it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from math import lcm

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Capabilities, ContractError, Conventions, Dims, Group, PadPolicy
from gdn_verify.cases.narrow import batch_refusals
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.cases.trajectories import served
from gdn_verify.oracles.noise import Rounding
from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.builder import Builder

RELAYS = ("fallback+dispatch", "fallback+fused-decode+fused-spec", "conv-chunk-delta+two-launch-decode")
"""The relays of this project's own paths, by name; others are found by theirs, members joined by "+"."""


class Relay(Path):
    """Several paths of one span as one. The first takes every launch that the relay takes."""

    def __init__(self, members: Sequence[Path]) -> None:
        first = members[0]
        for other in members[1:]:
            if other.capabilities.span != first.capabilities.span:
                spans = f"{first.name} has the span {first.capabilities.span}, {other.name} {other.capabilities.span}"
                raise ContractError(f"{'+'.join(m.name for m in members)}: {spans}")
            if not other.capabilities.groups <= first.capabilities.groups:
                raise ContractError(f"{first.name} does not take all rows that {other.name} takes: name it later")
        self.members = tuple(members)
        self.name = "+".join(member.name for member in members)
        self.capabilities = reduce(shared, (member.capabilities for member in members))
        self.conventions = reduce(_agreed, (member.conventions for member in members))
        self.hosts = tuple(host for host in members[-1].hosts if all(_runs(member, host) for member in members))

    def missing(self, host: str) -> Missing | None:
        return next((missing for member in self.members if (missing := member.missing(host))), None)

    def load(self, host: str) -> str:
        return ", ".join(dict.fromkeys(member.load(host) for member in self.members))

    def serving(self, batch: Batch, number: int) -> Path:
        able = [member for member in self.members if _takes(member.capabilities, batch)]
        return able[number % len(able)] if able else self.members[0]

    def run(self, launch: Launch) -> Outputs:
        return self.serving(launch.batch, launch.number).run(launch)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return self.members[0].rounding(case, presentation, host)

    @property
    def compiles(self) -> bool:
        return any(member.compiles for member in self.members)

    def one_pool(self, presentation: Presentation) -> bool:
        return any(member.one_pool(presentation) for member in self.members)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return next((why for member in self.members if (why := member.refuses(case, presentation))), None)


def _takes(c: Capabilities, batch: Batch) -> bool:
    """Whether a path takes a launch; of rows that are padding, those that look like rows of its own.

    A launch has a table of drafts or has none: plain padding means something else to a path of drafts alone.
    """
    drafts = {row.spec for row in batch.rows}
    shaped = drafts <= {spec for spec in (True, False) if any((group is Group.SPEC) == spec for group in c.groups)}
    return shaped and next(batch_refusals(c, "", batch), None) is None


def _runs(path: Path, host: str) -> bool:
    """Whether the path's own code runs on `host`: kernels nowhere on the cpu, torch code on any host."""
    return host in path.hosts and host != "cpu" if path.kernels else True


def shared(first: Capabilities, other: Capabilities) -> Capabilities:
    """What both take of geometry, dtypes and layout; of rows, what the first takes."""
    sets = (
        "ratios", "widths", "activations", "states", "conv_states", "gates", "params", "weights", "state_orders",
        "conv_layouts", "packings", "beta_scales", "qk_epsilons",
    )  # fmt: skip
    both = ("pool", "int64_indices", "strided", "misaligned", "column_strides", "row_steps", "scales")
    return replace(
        first,
        **{name: getattr(first, name) & getattr(other, name) for name in sets},
        **{name: getattr(first, name) and getattr(other, name) for name in both},
        square=first.square or other.square,
        alike=first.alike | other.alike,
        key_dim=_dims(first.key_dim, other.key_dim),
        value_dim=_dims(first.value_dim, other.value_dim),
        max_spec=min(first.max_spec, other.max_spec),
    )


def _dims(a: Dims, b: Dims) -> Dims:
    return Dims(max(a.low, b.low), min(a.high, b.high), lcm(a.multiple, b.multiple), a.power_of_two or b.power_of_two)


def _agreed(first: Conventions, other: Conventions) -> Conventions:
    """Ids that both take for padding. What padding holds is judged by the conventions of whoever serves the launch."""
    return Conventions(
        pads=(*first.pads, *other.pads),
        illegal_ids=first.illegal_ids,
        pad_outputs=tuple((name, PadPolicy.UNSPECIFIED) for name, _ in first.pad_outputs),
        scratch_slot=first.scratch_slot if other.scratch_slot is None else other.scratch_slot,
    )


def relays(paths: Iterable[Path | Builder]) -> tuple[Path, ...]:
    """The relays whose members are all among `paths`."""
    known = {path.name: path for path in paths if isinstance(path, Path)}
    teams = (name.split("+") for name in RELAYS)
    return tuple(Relay([known[name] for name in team]) for team in teams if known.keys() >= set(team))


def topics(path: Path | Builder) -> tuple[Topic, ...]:
    """What a path or a builder is judged on: launches of each kind, and trajectories; of a relay trajectories alone."""
    course = (Series.TRAJECTORY,) if served(path.capabilities) else ()
    kinds = path.capabilities.kinds
    if not isinstance(path, Builder) and path.judged is not None:
        kinds = tuple(kind for kind in kinds if kind in path.judged)
    return course if isinstance(path, Relay) else (*kinds, *course)
