"""What published tests would let through: their launches and comparisons, run over the mutants of this project's code.

A rule lets a mutant through where every launch of it that the mutated path takes passes. Mutants of tables, of what
outlives a launch and of Hopper's kernels are left out: no rule here reaches those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import torch
from torch import Tensor

from gdn_verify.cases.catalogue import IN_MEMORY
from gdn_verify.feed import Feed
from gdn_verify.hosts import Host
from gdn_verify.mutants import HANDOVER, METADATA, MUTANTS, NAMES, PLANTED, planter_of
from gdn_verify.mutants.child import Beat, forked
from gdn_verify.mutants.coarse import COARSE
from gdn_verify.mutants.launched import Seen, fed, observed, passes, refusal, right
from gdn_verify.mutants.published import Judge, Kernel, Part, Rule, Setting
from gdn_verify.mutants.raw_paths import Core, without_norm
from gdn_verify.mutants.rules import RULES
from gdn_verify.paths import Path
from gdn_verify.service import planter

PATIENCE = 300.0
"""Seconds of silence after which a mutant hangs."""
BY_HAND = tuple(name for name in PLANTED if name not in MUTANTS)
"""Defects that are the like of no bug of the catalogue."""
_SLOTS = (
    "slot_zero_is_nobodys",
    "negative_ids_raised_to_zero",
    "negative_ids_not_asked",
    "padding_id_not_asked",
    "slot_in_32_bits",
    "prompt_slot_in_32_bits",
    "product_in_32_bits",
)
_DRAFTS = ("draft_states_transposed", "draft_taken_for_a_step", "draft_slot_in_32_bits")
_CONV = ("conv_offset_in_32_bits", "window_stored_while_it_is_read", "short_window_to_the_slot_read")
PARTS: dict[str, Part] = {
    **dict.fromkeys(_SLOTS, Part.SLOTS),
    **dict.fromkeys(_DRAFTS, Part.DRAFTS),
    **dict.fromkeys(_CONV, Part.CONV),
    **{name: Part.CONV for name, mutant in MUTANTS.items() if mutant.module == "conv_states"},
    **{name: Part.GRAPHS for name, mutant in MUTANTS.items() if mutant.module == "captures"},
    **dict.fromkeys(("norm_of_the_larger", "norm_of_the_mean", "eps_on_the_mean"), Part.NORM),
    **dict.fromkeys(("compact_projections", "split_into_views_at_odd_ratios"), Part.PACKING),
    "z_of_a_power_of_two": Part.Z,
}
"""Mutants of what only some tests run; the others are of the recurrence, of its rows or of its chunks."""


class Fate(StrEnum):
    """What became of a mutant under a rule."""

    CAUGHT = "caught"
    LET_THROUGH = "let through"
    NOT_REACHED = "not reached"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Row:
    """A rule and a mutant: its fate, the launches that caught it, how many were made, and why it does not apply."""

    rule: str
    mutant: str
    path: str
    host: str
    fate: Fate
    caught_in: tuple[str, ...] = ()
    launches: int = 0
    why: str = ""


@dataclass(frozen=True)
class RulesOf:
    """What to measure: mutants of a path on a host, under rules; all by name."""

    path: str
    host: str
    mutants: tuple[str, ...]
    rules: tuple[str, ...]

    def measured(self, path: Path, host: Host) -> list[Row]:
        """A row for each mutant and rule, in the worker."""
        torch.set_num_threads(1)
        return Bench(without_norm(path.name), host, [RULES[name] for name in self.rules]).measured(self.mutants)


def known() -> tuple[str, ...]:
    """Names of the mutants that rules are measured on."""
    left_out = {*METADATA, *HANDOVER, *(name for name, m in MUTANTS.items() if m.host not in IN_MEMORY)}
    return (*COARSE, *(name for name in NAMES if name not in left_out))


def place_of(name: str) -> tuple[str, str]:
    """The path and the host that a mutant is planted in."""
    mutant = MUTANTS.get(name)
    return ("fallback", "cpu") if mutant is None else (mutant.path, mutant.host)


def questions(mutants: Iterable[str], rules: Iterable[str]) -> list[RulesOf]:
    """The mutants by path and host."""
    homes: dict[tuple[str, str], list[str]] = {}
    for name in mutants:
        homes.setdefault(place_of(name), []).append(name)
    return [RulesOf(*home, tuple(names), tuple(rules)) for home, names in homes.items()]


def inapplicable(rule: Rule, mutant: str) -> str:
    """Why a rule does not concern a mutant, whatever the launch; "" where it does."""
    path, _ = place_of(mutant)
    kernels = {"chunk": (Kernel.CHUNK,), "conv": (Kernel.CHUNK,), "fused": (Kernel.DECODE,)}
    if rule.kernel not in kernels.get(path.partition("-")[0], tuple(Kernel)):
        return f"the test runs no kernel like {path}"
    part = PARTS.get(mutant)
    return f"the test runs no {part}" if part and part not in rule.parts else ""


@dataclass(frozen=True)
class _Trial:
    """A launch of a rule that the path takes, its right result, and what the healthy path leaves."""

    setting: Setting
    judge: Judge
    expected: tuple[Tensor, Tensor]
    healthy: Seen


class Bench:
    """The launches of rules on one path: made once on the healthy path, and again with each mutant.

    Raises ValueError where a rule rejects what the healthy path gives: nothing follows from such a rule.
    """

    def __init__(self, path: Path, host: Host, rules: Sequence[Rule]) -> None:
        self.path, self.host = path, host
        path.load(host.name)
        self.trials = {rule.name: [*filter(None, (self._trial(*each) for each in rule.trials))] for rule in rules}
        self.rules = rules
        for rule in rules:
            if wrong := self.rejected(rule):
                raise ValueError(f"{rule.name} rejects the right result of {path.name} in {', '.join(wrong)}")

    def _trial(self, setting: Setting, judge: Judge) -> _Trial | None:
        if refusal(setting, self.path):
            return None
        made, seen = self._launched(setting, judge, "")
        return _Trial(setting, judge, right(made, self.path, setting), seen)

    @cache  # noqa: B019 - a bench lives as long as its worker
    def _seen(self, setting: Setting, unwritten: str, scratch: str, mutant: str) -> tuple[Feed, Seen]:
        judge = Judge(torch.equal, unwritten=float(unwritten), scratch=float(scratch))
        if isinstance(self.path, Core):
            self.path.normalised = setting.normalised
        made = fed(setting, self.path, judge)
        plant = planter(planter_of(mutant)) if mutant and mutant not in COARSE else _coarse(mutant)
        return made, observed(made, plant(self.path) if plant else self.path.run, judge)

    def _launched(self, setting: Setting, judge: Judge, mutant: str) -> tuple[Feed, Seen]:
        """A launch, once for all rules that feed it so; the fills by their names, as NaN is not itself."""
        return self._seen(setting, str(judge.unwritten), str(judge.scratch), mutant)

    def rejected(self, rule: Rule) -> list[str]:
        """Launches in which the rule rejects the healthy path's result: none, or nothing follows from the rule."""
        healthy = ((t, self._launched(t.setting, t.judge, "")[0]) for t in self.trials[rule.name])
        return [t.setting.label for t, made in healthy if not passes(t.judge, made, t.expected, t.healthy)]

    def measured(self, mutants: Iterable[str]) -> list[Row]:
        """The rows of all, each mutant in a process of its own: one that dies is caught by whatever it died in."""
        rows: list[Row] = []
        for mutant in mutants:
            outcome = forked(lambda beat, name=mutant: [self.row(rule, name, beat) for rule in self.rules], PATIENCE)  # type: ignore[misc]
            rows += outcome.answer or [self._dead(rule, mutant, outcome.death) for rule in self.rules]
        return rows

    def _dead(self, rule: Rule, mutant: str, death: str) -> Row:
        why = inapplicable(rule, mutant)
        fate = Fate.NOT_APPLICABLE if why or not self.trials[rule.name] else Fate.CAUGHT
        return Row(rule.name, mutant, self.path.name, self.host.name, fate, why=why or death)

    def row(self, rule: Rule, mutant: str, beat: Beat = lambda what: None) -> Row:
        """A rule's word on a mutant."""
        why, trials = inapplicable(rule, mutant), self.trials[rule.name]
        if why or not trials:
            return self._row(rule, mutant, Fate.NOT_APPLICABLE, why=why or "the path takes none of its launches")
        caught, reached = [], False
        for trial in trials:
            beat(trial.setting.label)
            made, seen = self._launched(trial.setting, trial.judge, mutant)
            reached |= not seen.same(trial.healthy)
            if not passes(trial.judge, made, trial.expected, seen):
                caught.append(trial.setting.label)
        if reached:
            fate = Fate.CAUGHT if caught else Fate.LET_THROUGH
            return self._row(rule, mutant, fate, tuple(caught), len(trials))
        return self._unreached(rule, mutant, trials)

    def _unreached(self, rule: Rule, mutant: str, trials: Sequence[_Trial]) -> Row:
        """The same bits as ever: the defect is of launches of another kind, or this one does not exercise it."""
        kinds = {str(trial.setting.case.kind) for trial in trials}
        shown = set(MUTANTS[mutant].kinds) if mutant in MUTANTS else kinds
        if kinds & shown or "mixed" in shown and len(kinds) > 1:
            return self._row(rule, mutant, Fate.NOT_REACHED, launches=len(trials))
        return self._row(rule, mutant, Fate.NOT_APPLICABLE, why=f"shows in launches of kind {', '.join(sorted(shown))}")

    def _row(
        self, rule: Rule, mutant: str, fate: Fate, caught_in: tuple[str, ...] = (), launches: int = 0, why: str = ""
    ) -> Row:
        return Row(rule.name, mutant, self.path.name, self.host.name, fate, caught_in, launches, why)


def _coarse(mutant: str) -> object:
    return planter(f"gdn_verify.mutants.coarse:{mutant}") if mutant else None


def counts(rows: Iterable[Row]) -> Mapping[str, Mapping[Fate, int]]:
    """How many mutants of each fate a rule has."""
    table: dict[str, dict[Fate, int]] = {}
    for row in rows:
        line = table.setdefault(row.rule, dict.fromkeys(Fate, 0))
        line[row.fate] += 1
    return table
