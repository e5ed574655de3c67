"""The jobs of a run: which cases of which path, on which host, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import ceil

from gdn_verify.cases.contract import Group, Kind
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.checks.laws import NAMES as LAWS
from gdn_verify.hosts import COMPILING, GPUS, SLOW
from gdn_verify.paths import Builder, Path, Subject
from gdn_verify.paths.relay import relays, topics
from gdn_verify.profiles import Profile
from gdn_verify.service import Job

FEW = 4
"""Cases that are not halved: under a tool that watches, or any run of so few."""
LAW_SHAPES = 3
"""Geometries of a Triton path on a GPU that are held to laws; shards of their heads are more to compile."""


def plan(
    paths: Iterable[Subject],
    hosts: Iterable[str],
    kinds: Iterable[Topic],
    profile: Profile,
    plant: str | None = None,
    laws: Iterable[str] = LAWS,
) -> list[Job]:
    """The jobs of a run, split into shards so that workers stay busy to the end; those of `laws` come last.

    Relays of the paths are among them. Table builders obey no laws.
    """
    hosts, paths = tuple(hosts), tuple(paths)
    placed = [(path, host) for path in (*paths, *relays(paths)) for host in path.hosts if host in hosts]
    return plan_for(placed, kinds, profile, plant, laws)


def plan_for(
    placed: Iterable[tuple[Subject, str]],
    kinds: Iterable[Topic],
    profile: Profile,
    plant: str | None = None,
    laws: Iterable[str] = LAWS,
) -> list[Job]:
    """The same for these paths on these hosts alone."""
    kinds, laws = frozenset(kinds), tuple(laws)
    targets = [(path, host, kind) for path, host in placed for kind in topics(path) if kind in kinds]
    judged = [job for target in targets for job in _shards(*target, profile, plant)]
    kinded = [target for target in targets if isinstance(target[2], Kind) and not isinstance(target[0], Builder)]
    last = {(path.name, host): kind for path, host, kind in kinded}
    held = [t for t in kinded if profile.laws_by_kind or (last[t[0].name, t[1]] is t[2] and _lawful(t[0], profile))]
    return judged + [job for target in held for job in _law_jobs(*target, profile, plant, laws)]


def _law_jobs(
    path: Subject, host: str, kind: Topic, profile: Profile, plant: str | None, laws: tuple[str, ...]
) -> Iterator[Job]:
    """One job, of few cases and small ones, as each is launched again and again."""
    count = profile.law_cases(host)
    if count and laws:
        shapes = LAW_SHAPES if _compiled(path, host) else None
        yield Job(path.name, host, kind, "brief", count, profile.seed, shapes=shapes, plant=plant, laws=laws)


def _shards(path: Subject, host: str, kind: Topic, profile: Profile, plant: str | None) -> Iterator[Job]:
    total, replays, repeats = _counts(path, host, kind, profile)
    on_gpu, tables = host in GPUS, isinstance(path, Builder)
    brief = kind in (Kind.DECODE, Kind.SPEC, Series.TRAJECTORY)
    size = "wide" if on_gpu or tables else "small" if brief else "prefill"
    shapes = profile.shapes if _compiled(path, host) else None
    apart = host in SLOW  # a program costs much there: what is launched again are small cases of their own
    for number, start in enumerate(range(0, total, profile.shard)):
        count = min(profile.shard, total - start)
        seed = profile.seed + number
        job = Job(path.name, host, kind, size, count, seed, shapes=shapes, plant=plant, tables=tables)
        if not tables:
            job = replace(job, watches=min(max(profile.watches - start, 0), count))
            job = job if number or apart else replace(job, replays=replays, repeats=repeats)
        yield job
    if apart and (count := max(replays, repeats)):
        job = Job(path.name, host, kind, "again", count, profile.seed, plant=plant)
        yield replace(job, replays=replays, repeats=repeats)


def _counts(path: Subject, host: str, kind: Topic, profile: Profile) -> tuple[int, int, int]:
    """How many cases, how many of them captured, and how many launched again."""
    total = profile.cases(host, kind)
    if isinstance(path, Builder) or not total:
        return total, 0, 0
    replays, repeats = profile.replayed(host, kind), profile.repeated(host, kind)
    if not _halved(path, profile):
        return total, replays, repeats
    return max(ceil(total / 2), min(total, FEW)), ceil(replays / 2), repeats // 2


def _compiled(path: Subject, host: str) -> bool:
    """Whether each geometry costs a compilation there, so that cases keep to a few."""
    return host in COMPILING and isinstance(path, Path) and path.compiles


def _halved(path: Subject, profile: Profile) -> bool:
    """Whether another path runs most of the same code, and is asked more; of a sweep each is asked alone."""
    return isinstance(path, Path) and path.variant and not profile.sweep


def _lawful(path: Subject, profile: Profile) -> bool:
    """Whether laws hold it in every run: of variants those of all kinds of rows, which laws bind together."""
    return not _halved(path, profile) or len(path.capabilities.groups) == len(Group)
