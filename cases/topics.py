"""What a run's cases are about: a kind of launch, or requests over many launches."""

from __future__ import annotations

from enum import StrEnum

from gdn_verify.cases.contract import Kind


class Series(StrEnum):
    """Label of cases that are more than a launch."""

    TRAJECTORY = "trajectory"


Topic = Kind | Series
TOPICS: tuple[Topic, ...] = (*Kind, *Series)


def topic(word: str) -> Topic:
    """The topic of this name; raises ValueError."""
    return Series(word) if word in tuple(Series) else Kind(word)
