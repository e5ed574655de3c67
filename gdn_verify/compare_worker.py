"""One version of an implementation at work: what it makes of each case, and how long it takes."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path as File

import torch
from torch import Tensor

from gdn_verify.cases.codec import CaseFile, loads
from gdn_verify.checks.question import ask, observed, stored_only, written
from gdn_verify.compare import Asked, Ran, Result
from gdn_verify.feed import Feed, Pools, feed, initial_pools, pools_after
from gdn_verify.hosts import Host
from gdn_verify.moves import moved
from gdn_verify.oracles.noise import expect, rows
from gdn_verify.paths import Path, find
from gdn_verify.paths.base import Outputs
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.runner import rounding_of
from gdn_verify.service import absence

TIMED = 3
"""Launches of a case that are timed, after one that may compile; the quickest counts."""


def serve(host: Host, pipe: Connection) -> None:
    """(version, why it does not load), then what each case that is sent came to, until the parent closes the pipe."""
    asked: Asked = pipe.recv()
    put_first(asked.folders)
    path = find(asked.path)
    try:
        reason = absence(path, host)
        pipe.send(("", reason) if reason else (path.load(host.name), ""))
    except Exception:
        pipe.send(("", traceback.format_exc(limit=-3).strip()))
    while True:
        try:
            text = pipe.recv()
        except EOFError:
            return
        pipe.send(ran(loads(text), path, host))


def put_first(folders: Sequence[str]) -> None:
    """Before whatever is installed, this suite's own folder too; this project's kernels from the first that has some.

    The suite stays what it is: it is imported by now.
    """
    sys.path[:0] = folders
    homes = (File(folder) / "gdn_verify" / "kernels" for folder in folders)
    home = next((home for home in homes if (home / "__init__.py").exists()), None)
    if home is None:
        return
    spec = spec_from_file_location(
        "gdn_verify.kernels", home / "__init__.py", submodule_search_locations=[str(home)]
    )  # fmt: skip
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gdn_verify.kernels"] = module_from_spec(spec)
    spec.loader.exec_module(module)


def ran(given: CaseFile, path: Path, host: Host) -> Ran:
    """All launches of a case: their results, and the quickest times of each added up."""
    case, shown = given.case, given.presentation
    results, seconds = list[Result](), 0.0
    try:
        if reason := refusal_of(path, case, shown):
            return Ran(trouble=f"refused: {reason}")
        pools = initial_pools(case, path, shown)
        for number, batch in enumerate(case.batches):
            pools = moved(pools, batch, shown.first_slot, case.geometry.W)
            fed, outputs, _ = _launched(given, number, path, pools, host)
            after = pools_after(fed)
            results += _results(fed, outputs, after, path, host) if len(fed.live_tokens) else ()
            seconds += min(_launched(given, number, path, pools, host)[2] for _ in range(TIMED))
            pools = after if path.capabilities.pool else fed.before
    except Exception as error:
        return Ran(trouble=f"{type(error).__name__}: {error}")
    return Ran(tuple(results), seconds)


def _launched(given: CaseFile, number: int, path: Path, pools: Pools, host: Host) -> tuple[Feed, Outputs, float]:
    """A launch in memory of its own, with its seconds until the device had finished."""
    fed = feed(given.case, number, path, given.presentation, pools, host.device)
    started = time.perf_counter()
    outputs = path.run(fed.launch)
    host.synchronize()
    return fed, outputs, time.perf_counter() - started


def _results(fed: Feed, outputs: Outputs, after: Pools, path: Path, host: Host) -> Iterator[Result]:
    """What the launch gave back, with the budgets of its rows; conv states, which are copies, as bits alone."""
    problem = ask(fed, path.capabilities.span)
    stored = written(fed, problem.every_token)
    rounding = rounding_of(fed.case, fed.number, path, fed.presentation, host)
    expected = stored_only(expect(problem, rounding), stored)
    for name, values in rows(observed(fed, outputs, after.ssm, problem.every_token)).items():
        yield Result(name, values.tobytes(), values, expected[name].budget)
    if after.conv is not None:
        yield Result("conv_pool", _bits(after.conv), values[:0], expected[name].budget[:0])


def _bits(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
