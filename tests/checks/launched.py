"""Paths for the tests of captured launches, healthy and with one defect each; they run where Triton is interpreted."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import replace

import torch

from gdn_verify.cases.contract import Kind
from gdn_verify.checks import launches
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants.captures import branch_of_the_capture, busy_when_idle
from gdn_verify.paths import Path, find
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.service import Job, draw


def healthy(path: Path) -> launches.Run:
    """The path itself."""
    return path.run


def kept_copy(path: Path) -> launches.Run:
    """A contiguous copy of the input is made for the first launch of a shape, and kept for those after it."""
    copies: dict[torch.Size, torch.Tensor] = {}

    def run(launch: Launch) -> Outputs:
        x = launch["qkvz"]
        if launch.batch.rows:
            x = copies.setdefault(x.shape, x.clone())
        return path.run(replace(launch, tensors={**launch.tensors, "qkvz": x}))

    return run


def length_read(path: Path) -> launches.Run:
    """The host asks the device how long the launch is."""

    def run(launch: Launch) -> Outputs:
        assert launch["query_start_loc"][-1].item() >= 0
        return path.run(launch)

    return run


RUNS = {run.__name__: run for run in (healthy, branch_of_the_capture, kept_copy, busy_when_idle, length_read)}


def verdicts(
    name: str, path_name: str, kind: str, count: int, *, promises_bits: bool = True, promises_capture: bool = True
) -> tuple[Counter[str], list[str]]:
    """How many cases were red, refused or silent, comparisons made, and the messages."""
    path, host = copy(find(path_name)), HOSTS["interpreter"]
    path.conventions = replace(path.conventions, deterministic=promises_bits)
    if not promises_capture:
        path.captures = lambda launch: False  # type: ignore[method-assign]
    path.load(host.name)
    tally, messages = Counter[str](), []
    for (case, presentation), _ in draw(Job(path_name, host.name, Kind(kind), "again", count=count, seed=11), path):
        found = launches.judge(case, presentation, path, host, RUNS[name](path))
        tally["red" if found.findings else "refused" if found.refused else "silent"] += 1
        tally["compared"] += found.compared
        messages += [*map(str, found.findings), *([found.refused] if found.refused else [])]
    return tally, messages
