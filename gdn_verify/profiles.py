"""How much a run does: numbers of cases by host and kind, fixed seeds, deadlines. Nothing is drawn from the clock."""

from __future__ import annotations

from dataclasses import dataclass

from gdn_verify.cases.contract import Kind
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.hosts import SLOW


@dataclass(frozen=True)
class Profile:
    """Cases per path, host and kind: `short` for decode and spec launches, `long` for prefill and mixed ones.

    `courses` are trajectories, each of a dozen launches at most. The interpreter runs a program at a time on the
    processor, so it has numbers of its own. `shapes` bounds the geometries of a Triton path on a GPU, each of which
    is compiled. The launches of `replays` cases of each kind are captured and replayed on other rows, a quarter of
    so many where they are interpreted; those of `repeats` cases are made again, of one where they are interpreted,
    and there these are smaller cases, of their own.
    `deadline` is the longest silence, in seconds, before a worker counts as hung; the first case of a worker may
    take `patience`, for imports and compilers, as may the suite's own work after a launch. After `deaths` cases
    that ended their worker, the rest of a path's cases of that kind is given up. Of `watches` cases of each kind
    every access of a kernel is checked, on a host that can do that. `laws` cases of each kind, `interpreted_laws`
    in the interpreter, are held to all laws: some fifty launches each. That is the last kind of each path alone,
    but for `laws_by_kind`: mixed launches have all rows. A `sweep` judges every configuration of each path.
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
    watches: int = 40
    replays: int = 8
    repeats: int = 2
    laws: int = 0
    interpreted_laws: int = 0
    laws_by_kind: bool = False
    sweep: bool = False

    def replayed(self, host: str, kind: Topic) -> int:
        """How many cases of one kind are captured."""
        if kind is Series.TRAJECTORY:
            return 0
        return self.replays // 4 if host in SLOW else self.replays

    def repeated(self, host: str, kind: Topic) -> int:
        """How many cases of one kind are launched again."""
        if kind is Series.TRAJECTORY:
            return 0
        return min(self.repeats, 1) if host in SLOW else self.repeats

    def cases(self, host: str, kind: Topic) -> int:
        """How many cases of one kind run on one host."""
        if kind is Series.TRAJECTORY:
            return self.interpreted_courses if host in SLOW else self.courses
        brief = kind in (Kind.DECODE, Kind.SPEC)
        if host in SLOW:
            return self.interpreted_short if brief else self.interpreted_long
        return self.short if brief else self.long

    def law_cases(self, host: str) -> int:
        """How many cases of each kind are held to the laws on one host."""
        return self.interpreted_laws if host in SLOW else self.laws


SANITIZE = Profile(
    "sanitize",
    short=4,
    long=4,
    interpreted_short=0,
    interpreted_long=0,
    shapes=3,
    seed=70,  # four cases of each kind, and yet rows of several chunks on served dims, and padding
    patience=1800.0,
    watches=0,
    replays=0,  # torch cannot allocate within a capture where each tensor is an allocation of its own
    repeats=0,
)
"""Under a tool that makes kernels many times slower. Too few cases for bias and power, so none of `PROFILES`."""

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "quick",
            short=50,
            long=20,
            interpreted_short=20,
            interpreted_long=5,
            courses=10,
            interpreted_courses=2,
            watches=0,
            replays=0,
            repeats=0,
            laws=2,
            interpreted_laws=1,
        ),
        Profile(
            "gate",
            short=300,
            long=112,
            interpreted_short=115,
            interpreted_long=20,
            courses=60,
            interpreted_courses=5,
            laws=3,
            interpreted_laws=1,
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
            watches=6000,
            replays=80,
            repeats=20,
            laws=200,
            laws_by_kind=True,
            interpreted_laws=60,
        ),
        Profile(
            "configurations",
            short=10,
            long=4,  # nearly every case of a configuration is compiled anew, some six seconds each
            interpreted_short=10,
            interpreted_long=4,
            shapes=4,
            replays=0,
            repeats=0,
            laws=3,
            interpreted_laws=1,
            sweep=True,
        ),
    )
}
