"""What published tests would let through: their launches and comparisons, run over the mutants of this project's code.

A rule lets a mutant through where every launch of it that the mutated path takes passes. Mutants of tables, of what
outlives a launch and of Hopper's kernels are left out: no rule here reaches those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from gdn_verify.cases.catalogue import IN_MEMORY
from gdn_verify.feed import Feed
from gdn_verify.hosts import Host
from gdn_verify.mutants import HANDOVER, METADATA, MUTANTS, NAMES, PLACE, planter_of
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

KINDS = {"state_ignored_on_second_chunk": ("prefill",)}
"""Launches that show a mutant of no bug, where not all do."""


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


def unlike(rule: Rule, path: str) -> str:
    """Why a rule does not concern a path, or ""."""
    kernels = {"chunk": (Kernel.CHUNK,), "conv": (Kernel.CHUNK,), "fused": (Kernel.DECODE,)}
    fitting = kernels.get(path.partition("-")[0], tuple(Kernel))
    return "" if rule.kernel in fitting else f"the test runs no kernel like {path}"


def inapplicable(rule: Rule, mutant: str) -> str:
    """Why a rule does not concern a mutant, whatever the launch, or ""."""
    part = PARTS.get(mutant)
    return unlike(rule, place_of(mutant)[0]) or (f"the test runs no {part}" if part and part not in rule.parts else "")


@dataclass(frozen=True)
class _Trial:
    """A launch of a rule that the path takes, its right result, and what the healthy path leaves."""

    setting: Setting
    judge: Judge
    expected: tuple[Tensor, Tensor]
    healthy: Seen

    @property
    def kinds(self) -> set[str]:
        """What the launch is, and what its rows are."""
        case = self.setting.case
        return {str(case.kind), *(str(row.group) for _, row in case.batches[0].live_rows())}


class Bench:
    """The launches of rules on one path: made once on the healthy path, and again with each mutant.

    Raises ValueError where a rule rejects what the healthy path gives: nothing follows from such a rule.
    """

    def __init__(self, path: Path, host: Host, rules: Sequence[Rule]) -> None:
        self.path, self.host, self.rules = path, host, rules
        self._made: dict[tuple[Setting, str], tuple[Feed, Seen]] = {}
        path.load(host.name)
        self.trials = {rule.name: self._trials(rule) for rule in rules}

    def _trials(self, rule: Rule) -> list[_Trial]:
        if unlike(rule, self.path.name):
            return []
        taken = [(setting, judge) for setting, judge in rule.trials if not refusal(setting, self.path)]
        return [self._trial(rule, setting, judge) for setting, judge in taken]

    def _trial(self, rule: Rule, setting: Setting, judge: Judge) -> _Trial:
        made, seen = self._launched(setting, judge)
        expected = right(made, self.path, setting)
        if not passes(judge, made, expected, seen):
            place = f"{self.path.name} on {self.host.name}, {setting.label}"
            raise ValueError(f"{rule.name} rejects the right result of {place}; {seen.raised or 'its numbers are off'}")
        return _Trial(setting, judge, expected, seen)

    def _launched(self, setting: Setting, judge: Judge, mutant: str = "") -> tuple[Feed, Seen]:
        """A launch of the path, or of a mutant of it: once for all rules that feed it so."""
        key = (setting, f"{mutant} {judge.unwritten} {judge.scratch}")  # NaN is not itself, its name is
        if key not in self._made:
            if isinstance(self.path, Core):
                self.path.normalised = setting.normalised
            made, plant = fed(setting, self.path, judge), planter(_home(mutant))
            self._made[key] = made, observed(made, plant(self.path) if plant else self.path.run, judge)
        return self._made[key]

    def measured(self, mutants: Iterable[str]) -> list[Row]:
        """The rows of all, each in a process of its own.

        Some mutants remember launches, and one that dies is caught by the rule that it died under.
        """
        return [self._measured(rule, mutant) for mutant in mutants for rule in self.rules]

    def _measured(self, rule: Rule, mutant: str) -> Row:
        if apart := self._apart(rule, mutant):
            return self._row(rule, mutant, Fate.NOT_APPLICABLE, why=apart)
        outcome = forked(lambda beat: self.row(rule, mutant, beat), PATIENCE)
        return outcome.answer or self._row(rule, mutant, Fate.CAUGHT, why=outcome.death)

    def _apart(self, rule: Rule, mutant: str) -> str:
        return inapplicable(rule, mutant) or ("" if self.trials[rule.name] else "the path takes none of its launches")

    def row(self, rule: Rule, mutant: str, beat: Beat = lambda what: None) -> Row:
        """A rule's word on a mutant; `beat` is told of each launch."""
        if apart := self._apart(rule, mutant):
            return self._row(rule, mutant, Fate.NOT_APPLICABLE, why=apart)
        caught, reached, trials = [], False, self.trials[rule.name]
        for trial in trials:
            beat(trial.setting.label)
            made, seen = self._launched(trial.setting, trial.judge, mutant)
            reached |= not seen.same(trial.healthy)
            if not passes(trial.judge, made, trial.expected, seen):
                caught.append(trial.setting.label)
        if not reached:
            return self._unreached(rule, mutant, trials)
        return self._row(rule, mutant, Fate.CAUGHT if caught else Fate.LET_THROUGH, tuple(caught), len(trials))

    def _unreached(self, rule: Rule, mutant: str, trials: Sequence[_Trial]) -> Row:
        """The same bits as ever: the defect is of launches of another kind, or these do not exercise it."""
        kinds = set[str]().union(*(trial.kinds for trial in trials))
        shown = set(MUTANTS[mutant].kinds if mutant in MUTANTS else KINDS.get(mutant, kinds))
        if kinds & shown:
            return self._row(rule, mutant, Fate.NOT_REACHED, launches=len(trials))
        return self._row(rule, mutant, Fate.NOT_APPLICABLE, why=f"shows in launches of {', '.join(sorted(shown))}")

    def _row(
        self, rule: Rule, mutant: str, fate: Fate, caught: tuple[str, ...] = (), launches: int = 0, why: str = ""
    ) -> Row:
        return Row(rule.name, mutant, self.path.name, self.host.name, fate, caught, launches, why)


def _home(mutant: str) -> str | None:
    """Where a mutant is planted, as "module:function"; None for none."""
    if not mutant:
        return None
    return f"{PLACE}.coarse:{mutant}" if mutant in COARSE else planter_of(mutant)


def counts(rows: Iterable[Row]) -> dict[str, dict[Fate, int]]:
    """How many mutants of each fate a rule has."""
    table: dict[str, dict[Fate, int]] = {}
    for row in rows:
        table.setdefault(row.rule, dict.fromkeys(Fate, 0))[row.fate] += 1
    return table
