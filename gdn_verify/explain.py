"""What a finding needs: each feature of a case is varied alone, and marked needed or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gdn_verify.cases.strategies import Fed
from gdn_verify.cases.variants import Feature, Word

Shows = Callable[[Fed], bool | None]
"""Whether a case shows the finding; None where the path does not take it."""


@dataclass(frozen=True)
class Ingredient:
    """A feature: how it is in the case, how else the finding is shown, and how it is not."""

    name: str
    now: Word
    shown: tuple[Word, ...] = ()
    lost: tuple[Word, ...] = ()

    @property
    def needed(self) -> bool:
        """Whether the finding is gone where the feature is otherwise, at least in one way."""
        return bool(self.lost)

    def __str__(self) -> str:
        """In words: "any", "≥ 2", "only no", "1, 3; not 2"."""
        if not self.lost:
            return "any"
        if not self.shown:
            return f"only {said(self.now)}"
        with_it, without = {self.now, *self.shown}, set(self.lost)
        if bound := _bound(with_it, without):
            return bound
        kept = [self.now, *(word for word in self.shown if word != self.now)]
        return f"{', '.join(map(said, kept))}; not {', '.join(map(said, self.lost))}"


def explain(fed: Fed, shows: Shows, features: Iterable[Feature], *, seconds: float) -> Iterator[Ingredient]:
    """What came of each feature that could be varied, until `seconds` are over."""
    deadline = time.monotonic() + seconds
    for feature in features:
        answers: dict[Word, bool] = {}
        for word, other in feature.variants(fed):
            if time.monotonic() >= deadline:
                return
            if (answer := shows(other)) is not None:
                answers[word] = answer
        if answers:
            shown = tuple(word for word, answer in answers.items() if answer)
            lost = tuple(word for word, answer in answers.items() if not answer)
            yield Ingredient(feature.name, feature.now(fed), shown, lost)


def _bound(with_it: set[Word], without: set[Word]) -> str:
    """ "≥ 2" or "≤ 16", if numbers are parted so."""
    high, low = _numbers(with_it), _numbers(without)
    if len(high) < len(with_it) or len(low) < len(without):
        return ""
    if min(high) > max(low):
        return f"≥ {min(high):g}"
    return f"≤ {max(high):g}" if max(high) < min(low) else ""


def _numbers(words: set[Word]) -> list[float]:
    return [word for word in words if isinstance(word, (int, float)) and not isinstance(word, bool)]


def said(word: Word) -> str:
    """A word as it is told."""
    if word is None or isinstance(word, bool):
        return "yes" if word else "no" if word is False else "none"
    return f"{word:g}" if isinstance(word, (int, float)) else word
