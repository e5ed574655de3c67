"""How much a run does: numbers of cases by host and kind, fixed seeds, deadlines. Nothing is drawn from the clock."""

from __future__ import annotations

from dataclasses import dataclass

from gdn_verify.cases.contract import Kind, Series, Topic


@dataclass(frozen=True)
class Profile:
    """Cases per path, host and kind: `short` for decode and spec launches, `long` for prefill and mixed ones.

    `courses` are trajectories, each of a dozen launches at most. The interpreter runs a program at a time on the
    processor, so it has numbers of its own. `shapes` bounds the geometries of a Triton path on a GPU, each of which is
    compiled. `deadline` is the longest silence, in seconds,
    before a worker counts as hung; the first case of a worker may take `patience`, for imports and compilers, as may
    the suite's own work after a launch. After `deaths` cases that ended their worker, the rest of a path's cases of
    that kind is given up.
    """

    name: str
    short: int
    long: int
    interpreted_short: int
    interpreted_long: int
    courses: int = 0
    interpreted_courses: int = 0
    shapes: int = 12
    seed: int = 20260801
    shard: int = 100
    deadline: float = 60.0
    patience: float = 600.0
    deaths: int = 5

    def cases(self, host: str, kind: Topic) -> int:
        """How many cases of one kind run on one host."""
        if kind is Series.TRAJECTORY:
            return self.interpreted_courses if host == "interpreter" else self.courses
        brief = kind in (Kind.DECODE, Kind.SPEC)
        if host == "interpreter":
            return self.interpreted_short if brief else self.interpreted_long
        return self.short if brief else self.long


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "quick", short=60, long=30, interpreted_short=60, interpreted_long=12, courses=10, interpreted_courses=1
        ),
        Profile(
            "gate", short=400, long=150, interpreted_short=400, interpreted_long=120, courses=60, interpreted_courses=5
        ),
        Profile(
            "nightly",
            short=6000,
            long=1000,
            interpreted_short=6000,
            interpreted_long=500,
            courses=500,
            interpreted_courses=500,
            shard=250,
        ),
    )
}
