"""Few cases of many paths under each of compute-sanitizer's tools: the jobs of such a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gdn_verify import gate
from gdn_verify.cases.topics import Topic
from gdn_verify.hosts.sanitizer import Sanitizer
from gdn_verify.paths import Path
from gdn_verify.profiles import SANITIZE, Profile
from gdn_verify.service import Job


def plan(
    paths: Iterable[Path],
    hosts: Iterable[str],
    kinds: Iterable[Topic],
    tools: Iterable[str],
    profile: Profile = SANITIZE,
) -> list[Job]:
    """The same cases for each tool. Of a path that declares kernels, torch's are left out where a tool can do that."""
    paths = tuple(paths)
    own = {path.name: bool(path.kernels) for path in paths}
    jobs = gate.plan(paths, hosts, kinds, profile, laws=())
    return [watched(job, tool, own.get(job.path, False)) for tool in tools for job in jobs]


def watched(job: Job, tool: str, own_kernels: bool = False) -> Job:
    """A job as it runs under a tool: small cases, and no more than launching them."""
    return replace(job, size="watched", watches=0, sanitizer=Sanitizer(tool, own_kernels))
