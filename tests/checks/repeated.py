"""Paths for the tests of repeated launches, healthy and with one defect each; they run on any host."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import replace
from itertools import count

import torch

from gdn_verify.cases.contract import Kind
from gdn_verify.checks import repetition
from gdn_verify.hosts import HOSTS
from gdn_verify.paths import Path, find
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.service import Job, draw


def healthy(path: Path) -> repetition.Run:
    """The path itself."""
    return path.run


def another_order(path: Path) -> repetition.Run:
    """Every third launch rounds the first element another way, as sums in another order do."""
    turns = count()

    def run(launch: Launch) -> Outputs:
        outputs = path.run(launch)
        if next(turns) % 3 == 2 and len(outputs.o):
            outputs.o[..., 0] *= 1 + 2**-7
        return outputs

    return run


def scratch_trusted(path: Path) -> repetition.Run:
    """A wrapper adds to a buffer that it did not clear."""

    def run(launch: Launch) -> Outputs:
        scratch = torch.empty_like(launch["out"])
        outputs = path.run(launch)
        outputs.o.copy_(torch.where(scratch.isnan(), scratch, outputs.o))
        return outputs

    return run


def grown_state(path: Path) -> repetition.Run:
    """What one launch leaves in a buffer of the path is added to the next one's output."""
    kept: list[torch.Tensor] = []

    def run(launch: Launch) -> Outputs:
        outputs = path.run(launch)
        if kept and kept[0].shape == outputs.o.shape:
            outputs.o.add_(kept[0])
        kept[:] = [outputs.o.clone()]
        return outputs

    return run


def first_stream(path: Path) -> repetition.Run:
    """The launch goes to the default stream, whatever the caller's is. For a card."""

    def run(launch: Launch) -> Outputs:
        with torch.cuda.stream(torch.cuda.default_stream()):
            return path.run(launch)

    return run


def shared_scratch(path: Path) -> repetition.Run:
    """The output passes through one buffer of the path, whichever stream it is launched on. For a card."""
    buffers: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}

    def run(launch: Launch) -> Outputs:
        outputs = path.run(launch)
        shape = outputs.o.shape, outputs.o.dtype
        shared = buffers.setdefault(shape, torch.empty_like(outputs.o, memory_format=torch.contiguous_format))
        shared.zero_()
        torch.cuda._sleep(100_000)
        shared.add_(outputs.o)
        torch.cuda._sleep(100_000)
        outputs.o.copy_(shared)
        return outputs

    return run


RUNS = {
    run.__name__: run for run in (healthy, another_order, scratch_trusted, grown_state, first_stream, shared_scratch)
}


def verdicts(
    name: str, path_name: str, kind: str, cases: int, host_name: str = "interpreter", *, promises_bits: bool = True
) -> tuple[Counter[str], list[str]]:
    """How many cases were red, refused or silent, launches compared, and the findings as text."""
    path, host = copy(find(path_name)), HOSTS[host_name]
    path.conventions = replace(path.conventions, deterministic=promises_bits)
    path.load(host.name)
    tally, messages = Counter[str](), []
    job = Job(path_name, host.name, Kind(kind), count=cases, seed=11, shapes=3 if host_name == "cuda" else None)
    for (case, presentation), _ in draw(job, path):
        found = repetition.judge(case, presentation, path, host, RUNS[name](path))
        tally["red" if found.findings else "refused" if found.refused else "silent"] += 1
        tally["compared"] += found.compared
        messages += [*map(str, found.findings), *([found.refused] if found.refused else [])]
    return tally, messages
