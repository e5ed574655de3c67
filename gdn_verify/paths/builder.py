"""What a table builder is: a path of span `tables`, from the rows of a launch to its index tensors.

It comes before all stages and computes nothing. As an engine would, it is begun once, with what does not change, and
then told of one launch after the other. What it gives back is held to `gdn_verify.oracles.tables`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import Capabilities, Conventions, Group, IdRule, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.paths.base import Missing

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Setup:
    """What an engine settles before its first launch.

    At most `max_rows` rows a launch, padding included; `width` slots a draft (S), None where no row will be one;
    `reads`, whether rows may read another slot than they write; `conv_width` W. The presentation has the sentinel,
    the slot that logical slot 0 is, and the type of indices.
    """

    max_rows: int
    width: int | None
    reads: bool
    conv_width: int
    presentation: Presentation


@dataclass(frozen=True)
class Roster:
    """The rows of one launch, in order, and the number of rows that a captured graph has; None for an eager launch."""

    rows: tuple[Row, ...]
    pad_to: int | None = None

    @property
    def drafts(self) -> bool:
        """Whether the launch verifies any draft."""
        return any(row.spec for row in self.rows)


@dataclass(frozen=True)
class Split:
    """Which rows are what, by one account: that of a device's masks, of a host that plans, of a plan read back.

    `kinds` are those that the launch is said to have. `rows` gives the rows of each, in order; None where the account
    does not say whose they are. `one_token_each` is the claim that every row has one token.
    """

    kinds: frozenset[Group]
    rows: Mapping[Group, tuple[int, ...]] | None = None
    one_token_each: bool = False


@dataclass(frozen=True)
class Built:
    """The tables of a launch of N rows, by the contract's names, and who splits its rows how.

    `query_start_loc` [N+1], `state_indices` [N] or [N, S], `has_initial_state` [N], `num_accepted_tokens` and
    `spec_rows` [N] where there are drafts, `read_indices` [N] where rows read elsewhere. N counts the padding up to
    `pad_to`. An implementation that cuts its tables up by kind puts them together here, row by row.
    """

    tensors: Mapping[str, Tensor]
    splits: Mapping[str, Split] = field(default_factory=dict)


Build = Callable[[Roster], Built]
Commit = Callable[["Tensor", "Tensor", "Tensor", "Tensor"], None]
"""(pool [P, …], conv pool [P, D, C], table [N, S], accepted counts [N]): the accepted prefix of a launch's drafts
becomes their rows' plain state, in both pools, in place. Rows that are no draft have a count of 1."""


@dataclass(frozen=True)
class Maker:
    """A builder that was begun: it makes the tables of one launch after the other, and commits drafts, if it can."""

    build: Build
    commit: Commit | None = None


Begin = Callable[[Setup], Maker]

EVERYTHING = Capabilities(
    Span(Stage.DELTA, Stage.DELTA), column_strides=True, separate_slots=True, beta_scales=frozenset({1.0, 2.0})
)
"""Every launch that the contract allows. A builder sees no stage; those of the recurrence make the shortest cases."""


class Builder(ABC):
    """One implementation. Attributes are declarations; nothing is imported before `load`.

    Of `capabilities` groups, paddings, lengths, drafts, separate slots and index types narrow what it is asked for; of
    `conventions` the ids that mark padding do. With `persistent`, tables of a captured size stay where they are, and
    are read there; without it, those of one launch are left alone by the next.
    """

    name: str
    hosts: tuple[str, ...] = ("cpu",)
    capabilities: Capabilities = EVERYTHING
    conventions: Conventions = Conventions(pads=((Stage.DELTA, IdRule.OUTSIDE),))
    kernels: tuple[str, ...] = ()
    least_reach: float = 0.0
    persistent: bool = False

    @abstractmethod
    def missing(self, host: str) -> Missing | None:
        """Why this builder cannot run on `host` here, without importing anything heavy; None if it can."""

    @abstractmethod
    def load(self, host: str) -> str:
        """Import the implementation, in the worker; the version really loaded."""

    @abstractmethod
    def begin(self, setup: Setup) -> Maker:
        """A maker of the tables of one engine's launches; it may remember them."""

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        """A reason beyond `capabilities` not to take this case so fed, or None."""
        return None
