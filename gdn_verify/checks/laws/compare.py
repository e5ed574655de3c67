"""Whether a relation holds of what was seen, and whether a broken one would have shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gdn_verify.checks.laws.budget import broken_results, spread
from gdn_verify.checks.laws.observe import Seen
from gdn_verify.checks.laws.relation import Likeness, Relation, Trial
from gdn_verify.checks.laws.shots import Numbers
from gdn_verify.checks.values import DRAWS
from gdn_verify.oracles.compose import Array
from gdn_verify.oracles.noise import Expected, threshold


@dataclass(frozen=True)
class Wrong:
    """Results that do not relate as they must: the worst place, in words."""

    name: str
    message: str
    ratio: float


@dataclass(frozen=True)
class Verdict:
    """What came of one relation; `compared` counts rows of results, `power` is a broken law's distance in budgets."""

    wrong: tuple[Wrong, ...]
    ratio: float
    power: float
    compared: int


Places = dict[str, tuple[Array, NDArray[np.bool_]]]
"""Results by name in the base's places, and which of its tokens or states, by heads, they cover."""
Drawn = Callable[[Seen, int], dict[str, Expected]]
"""A chain's budgets, from so many perturbed runs."""


class Sides:
    """A relation's launches as seen, and their budgets as drawn so far."""

    def __init__(self, relation: Relation, base: Seen, trials: list[Seen]) -> None:
        self.relation, self.base, self.trials = relation, base, trials
        self.values, self.numbers = base.values(), base.all_numbers()
        self._maps = [_Map(trial, seen, base) for trial, seen in zip(relation.trials, trials, strict=True)]

    def names(self) -> list[str]:
        """The results that are compared as numbers."""
        wanted = [name for name, on in (("out", self.relation.outputs), ("h", self.relation.states)) if on]
        return [name for name in wanted if name in self.values]

    def observed(self) -> Places:
        """Trials in the base's places, and where they cover it."""
        if self.relation.kept:
            return {"h": (self.values["h0"], np.ones(self.values["h"].shape[:2], bool))}
        return self._placed([seen.values() for seen in self.trials], [trial.factor for trial in self.relation.trials])

    def _placed(self, results: list[dict[str, Array]], factors: list[float]) -> Places:
        placed: Places = {}
        for name in self.names():
            total = np.full_like(self.values[name], -0.0)  # which keeps the sign of what is added to it
            times = np.zeros(total.shape[:2], int)
            for mapped, made, factor in zip(self._maps, results, factors, strict=True):
                if name in made:
                    own, at = mapped.places(name)
                    total[at] += factor * made[name][own]
                    times[at] += 1
            placed[name] = total, times == (len(self.trials) if self.relation.adds else 1)
        return placed

    def budgets(self, spreads: list[dict[str, Expected]]) -> dict[str, Array]:
        """The sum of all budgets at each place of the base; the first of `spreads` is the base's."""
        first, *others = spreads
        of_base = abs(self.relation.of_base)
        bounds = {name: of_base * item.budget for name, item in first.items()}
        for mapped, made, trial in zip(self._maps, others, self.relation.trials, strict=True):
            for name in self.names():
                if name in made:
                    own, at = mapped.places(name)
                    bounds[name][at] += abs(trial.factor) * made[name].budget[own]
        return bounds

    def broken(self, spreads: list[dict[str, Expected]]) -> tuple[Places, dict[str, Array]]:
        """What the trials would give if the law were broken, in the base's places; and what the base gives."""
        first, *others = spreads
        base = {name: item.value for name, item in first.items()}
        if self.relation.kept:
            assert self.relation.kept_breaks is not None
            made = broken_results(self.base.questions, self.relation.kept_breaks)["h"]
            return {"h": (made, np.ones(made.shape[:2], bool))}, base
        results = [self._break(trial, seen, right) for trial, seen, right in zip(
            self.relation.trials, self.trials, others, strict=True)]  # fmt: skip
        shown = self.relation.trials[0].shows is not None
        maps, self._maps = self._maps, [m.shown() for m in self._maps] if shown else self._maps
        try:
            return self._placed(results, [trial.factor for trial in self.relation.trials]), base
        finally:
            self._maps = maps

    def _break(self, trial: Trial, seen: Seen, right: Mapping[str, Expected]) -> dict[str, Array]:
        if trial.shows is not None and trial.breaks is None:
            return {name: item.value for name, item in right.items()}
        if trial.breaks is None:
            return {name: np.zeros_like(item.value) for name, item in right.items()}
        return broken_results(seen.questions, trial.breaks)

    def copies(self) -> Iterator[Wrong]:
        """z and histories that are no copies of each other."""
        for name in ("z", "conv") if self.relation.copies else ():
            for mapped, seen in zip(self._maps, self.trials, strict=True):
                if name in self.values and name in (made := seen.values()):
                    own, at = mapped.places(name)
                    left, right = self.values[name][at], made[name][own]
                    yield from _copied(name, left, right, self.numbers[name][at[0][:, 0]])


class _Map:
    """From places of a trial to places of the base."""

    def __init__(self, trial: Trial, seen: Seen, base: Seen, shown: bool = False) -> None:
        self._trial, self._seen, self._base = trial, seen, base
        self._numbers = seen.all_numbers()
        if shown and trial.shows is not None:
            live = np.concatenate(trial.shows)
            self._numbers = {**self._numbers, "out": live}
            self._numbers |= {
                name: np.full_like(self._numbers[name], -1) for name in ("h", "h0") if name in self._numbers
            }

    def shown(self) -> _Map:
        return _Map(self._trial, self._seen, self._base, shown=True)

    def places(self, name: str) -> tuple[tuple[Numbers, ...], tuple[Numbers, ...]]:
        """(own, base): index tuples over the first two axes, tokens or states or rows by heads or channels."""
        where = {int(number): at for at, number in enumerate(self._base.all_numbers()[name]) if number >= 0}
        pairs = [(own, where[int(n)]) for own, n in enumerate(self._numbers[name]) if int(n) in where]
        own, at = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
        across = self._trial.channels if name == "conv" else self._trial.heads
        count = self._seen.values()[name].shape[1]
        targets = np.arange(count) if across is None else np.array(across, np.int64)
        return np.ix_(own, np.arange(len(targets))), np.ix_(at, targets)


def judge(relation: Relation, base: Seen, trials: list[Seen], drawn: Drawn) -> Verdict:
    """Whether the relation holds of what was seen; `drawn` gives a chain's budgets from so many runs."""
    sides = Sides(relation, base, trials)
    placed = sides.observed()
    compared = sum(int(mask.sum()) * (base.values()[n].shape[2] if n == "h" else 1) for n, (_, mask) in placed.items())
    limit = threshold(compared)
    for runs, trusted in DRAWS:
        spreads = [drawn(seen, runs) for seen in (base, *trials)]
        bounds = sides.budgets(spreads)
        ratios = {name: _ratios(sides, name, placed, bounds) for name in placed}
        worst = max((float(r.max(initial=0.0)) for r in ratios.values()), default=0.0)
        if worst <= trusted * limit:
            break
    wrong = [w for n in placed if (w := _accuse(sides, n, placed[n], ratios[n], bounds[n], limit)) is not None]
    power = _power(sides, spreads, bounds)
    return Verdict((*wrong, *sides.copies()), worst, power, compared)


def _ratios(sides: Sides, name: str, placed: Places, bounds: Mapping[str, Array]) -> Array:
    """The difference of each row over both budgets, 0 where nothing is compared; infinite where not finite."""
    value, mask = placed[name]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.sqrt(np.square(value - sides.relation.of_base * sides.values[name]).sum(axis=-1))
        ratios = np.where(np.isfinite(error), error / bounds[name], np.inf)
    return np.where(mask.reshape(mask.shape + (1,) * (ratios.ndim - 2)), ratios, 0.0)


def _differing(sides: Sides, name: str, placed: tuple[Array, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Rows of which some element is not the same, where that is asked for."""
    value, mask = placed
    want = sides.relation.of_base * sides.values[name]
    if sides.relation.likeness is Likeness.NEAR:
        return np.zeros(value.shape[:-1], bool)
    if sides.relation.likeness is Likeness.BITS:
        differs = np.ascontiguousarray(value).view(np.int64) != np.ascontiguousarray(want).view(np.int64)
    else:
        differs = value != want
    differs &= np.maximum(np.abs(value), np.abs(want)) >= sides.relation.floor
    rows: NDArray[np.bool_] = differs.any(axis=-1)
    return rows & mask.reshape(mask.shape + (1,) * (rows.ndim - 2))


def _accuse(
    sides: Sides, name: str, placed: tuple[Array, NDArray[np.bool_]], ratios: Array, bound: Array, limit: float
) -> Wrong | None:
    differing = _differing(sides, name, placed)
    wrong = (ratios > limit) | differing
    if not wrong.any():
        return None
    row = np.unravel_index(int(np.where(wrong, ratios, -1.0).argmax()), ratios.shape)
    value, want = placed[0][row], sides.relation.of_base * sides.values[name][row]
    with np.errstate(invalid="ignore"):
        error = np.where(np.isfinite(value) & np.isfinite(want), np.abs(value - want), np.inf)
    at = int(error.argmax())
    axes = ("token", "value head") if name == "out" else ("state after token", "value head", "V")
    numbers = (sides.numbers[name][row[0]], *row[1:])
    place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, numbers, strict=False))
    rows = int(placed[1].sum()) * (ratios.shape[2] if ratios.ndim == 3 else 1)
    but = f"a difference of {np.sqrt(np.square(error).sum()):.3g} against both budgets' {bound[row]:.3g}"
    must = "must be the same" if differing[row] else f"limit {limit:.2f}"
    message = (
        f"{name}[{place}, element {at}]: {want[at]:.9g} is expected from the base, but {sides.relation.says}, it is "
        f"{value[at]:.9g}; {but}, ratio {ratios[row]:.3g} ({must}); {int(wrong.sum())} of {rows} rows wrong"
    )
    ratio = float("inf") if differing[row] and ratios[row] <= limit else float(ratios[row])
    finite = bool(np.isfinite(value).all() and np.isfinite(want).all())
    return Wrong(name if finite else f"{name} not finite", message, ratio)


def _copied(name: str, left: Array, right: Array, numbers: Numbers) -> Iterator[Wrong]:
    differs = np.ascontiguousarray(left).view(np.int64) != np.ascontiguousarray(right).view(np.int64)
    differs &= ~(np.isnan(left) & np.isnan(right))
    if differs.any():
        at = tuple(int(i) for i in np.argwhere(differs)[0])
        what = {"z": "z of", "conv": "the history after"}[name]
        message = (
            f"{what} token {int(numbers[at[0]])}, element {at[1:]}: {left[at]:.9g} and {right[at]:.9g} are no copies"
        )
        yield Wrong(name, message, float("inf"))


def _power(sides: Sides, spreads: list[dict[str, Expected]], bounds: Mapping[str, Array]) -> float:
    """The distance, in budgets, that a broken law would show."""
    places, base = sides.broken(spreads)
    found = [0.0]
    for name, (value, mask) in places.items():
        error = np.sqrt(np.square(value - sides.relation.of_base * base[name]).sum(axis=-1))
        ratios = error / bounds[name]
        found.append(float(np.where(mask.reshape(mask.shape + (1,) * (ratios.ndim - 2)), ratios, 0.0).max(initial=0.0)))
    return max(found)


def budgets_by_chain() -> Drawn:
    """Budgets of chains, each drawn once for a number of runs."""
    known: dict[tuple[int, int], dict[str, Expected]] = {}
    kept: list[Seen] = []  # an id is a chain's own only while it lives

    def drawn(seen: Seen, runs: int) -> dict[str, Expected]:
        key = id(seen), runs
        if key not in known:
            kept.append(seen)
            known[key] = spread(seen.questions, runs)
        return known[key]

    return drawn
