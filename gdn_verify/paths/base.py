"""What a path is: one implementation of a contiguous span of stages, and what it says of itself.

An adapter is one small class. It never guesses: where it runs, what it takes, how it reads the contract,
what it rounds and which kernels it launched are declared here, and `conformance` holds it to that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Capabilities, Conventions, DTypes, Geometry, Kind, Options
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Missing:
    """Why a path or host cannot run here, and the command that would change it ("" if none does)."""

    reason: str
    install: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.install})" if self.install else self.reason


@dataclass(frozen=True)
class Launch:
    """The tensors of one launch, by the contract's names, and the facts a host knows without reading them.

    At the left edge of the span: `qkvz`, `ba` (unpack); `mixed_qkv` [T, D], `b`, `a` [T, HV] (conv);
    `q`, `k` [T, H, K], `v` [T, HV, V], `b`, `a` (gates); `q`, `k`, `v`, `g`, `beta` [T, HV] (delta); `o` (norm);
    `z` [T, HV, V] where the span passes it through. Parameters as in `cases.problem.parameters`.

    Pools and tables: `ssm_pool` [P, HV, V, K] or [P, HV, K, V], `conv_pool` [P, D, C], `query_start_loc` [N+1],
    `has_initial_state` [N] bool, `read_indices` [N] where slots are separate; it may hold the sentinel for a row that
    has no initial state: nothing is read then, and the row is live. `state_indices` is [N]; if any row of the launch is
    a spec row it is [N, S], plain rows in column 0, and then there are `spec_rows` [N] bool and
    `num_accepted_tokens` [N] (any number for a row that is no spec row) too. A dense path gets `initial_state`
    [N, HV, V, K] or [N, HV, K, V] instead of pools, zeros where a row is fresh.

    Outputs: `out` [T, HV, V] and, from the unpack edge, `z_out` [T, HV, V]: poisoned, to be filled.

    `number` counts the launches of a case.
    """

    geometry: Geometry
    dtypes: DTypes
    options: Options
    batch: Batch
    presentation: Presentation
    tensors: Mapping[str, Tensor]
    number: int = 0

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def get(self, name: str) -> Tensor | None:
        """The tensor, or None where this launch has none of that name."""
        return self.tensors.get(name)


@dataclass(frozen=True)
class Outputs:
    """What a path gives back beside the buffers it filled in place.

    `o` [T, HV, V] is the result of the span's last stage (`launch["out"]` itself if filled there).
    `final_state` is a dense path's states after the launch, [N, HV, V, K] or [N, HV, K, V] like the one it got.
    `stages` holds intermediates worth judging by themselves: conv [T, D], g, beta [T, HV], q_hat, k_hat [T, H, K], and
    o [T, HV, V] before the norm.
    """

    o: Tensor
    final_state: Tensor | None = None
    stages: Mapping[str, Tensor] = field(default_factory=dict)


class Path(ABC):
    """One implementation. Attributes are declarations; nothing is imported before `load`."""

    name: str
    hosts: tuple[str, ...]
    capabilities: Capabilities
    conventions: Conventions = Conventions()
    #: Substrings, each of which must occur in the name of a launched Triton kernel; empty for torch code.
    kernels: tuple[str, ...] = ()
    #: The same of kernels that may run besides, and no other may; None where that is not said.
    besides: tuple[str, ...] | None = None
    #: Functions, "module:function" each, that `run` looks up and calls: a script without this suite calls them too.
    entries: tuple[str, ...] = ()
    #: The share of the fixed probe set that `capabilities` must go on accepting; a drop below it fails the gate.
    least_reach: float = 0.0
    #: The kinds of launch that the gate judges it on; None for all that it takes.
    judged: frozenset[Kind] | None = None
    #: Whether another path runs most of the same code: it is judged on half the cases (see `planning`).
    variant: bool = False
    #: Stages that every launch shows (`Outputs.stages`); one that is lacking is wrong.
    shows: frozenset[str] = frozenset()
    #: Elements between two tokens of inputs and outputs that it takes at most; 0 where nothing is said of far ones.
    widest_token: int = 0
    #: Whether rows of more tokens than it takes may stand in its tables, and are passed over.
    passes_over: bool = False
    #: Whether a prefill keeps checkpoint states, and goes on from one of them.
    checkpoints: bool = False
    #: The place of the configuration that autotuned kernels are pinned to, counted round; None for the first.
    configuration: int | None = None

    @property
    def compiles(self) -> bool:
        """Whether each geometry is compiled on a card when it is first seen, so that cases keep to a few of them."""
        return bool(self.kernels)

    @abstractmethod
    def missing(self, host: str) -> Missing | None:
        """Why this path cannot run on `host` here, without importing anything heavy; None if it can."""

    def environment(self, host: str) -> Mapping[str, str]:
        """Variables that the implementation's package reads while it is imported; `load` sets them, a repro too."""
        return {}

    @abstractmethod
    def load(self, host: str) -> str:
        """Import the implementation, in the worker; the version really loaded."""

    @abstractmethod
    def run(self, launch: Launch) -> Outputs:
        """Launch once on the tensors given."""

    @abstractmethod
    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        """Which intermediates are rounded to which type for this case, so fed, on this host."""

    def captures(self, launch: Launch) -> bool:
        """Whether a graph can hold this launch; one of which that is said, and that is refused, is wrong."""
        return False

    def validates(self, launch: Launch) -> bool:
        """Whether such a launch has its tables looked at, and raises ValueError for those of none before it begins."""
        return False

    def serving(self, batch: Batch, number: int) -> Path:
        """Whose rounding, conventions and kernels a launch is held to: the path's own, or those of a part of it."""
        return self

    def configured(self, settings: Mapping[str, int]) -> Path | None:
        """A copy that runs in another configuration than it would choose, or None where there is no choice.

        It is listed nowhere, and found by name: `path:field=value/field=value`. `config=3` of a path with kernels pins
        the fourth configuration of those that are autotuned.
        """
        if not self.kernels or set(settings) != {"config"}:
            return None
        other = copy(self)
        other.configuration = settings["config"]
        return other

    def configurations(self) -> Iterable[Mapping[str, int]]:
        """Settings of all configurations that the loaded path may run in here; none where there is no choice.

        Those of its autotuned kernels, unless the path knows better.
        """
        from gdn_verify.hosts.autotune import most_configurations

        return [{"config": place} for place in range(most_configurations(self.kernels))]

    def one_pool(self, presentation: Presentation) -> bool:
        """Whether kernels are compiled for the number of slots of a pool so laid out.

        Each other number costs another, or is refused where a kernel is kept without a word of it: cases of one
        geometry get one number of slots (`cases.spare`).
        """
        return False

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        """A reason beyond `capabilities` not to take this case so fed, or None."""
        return None
