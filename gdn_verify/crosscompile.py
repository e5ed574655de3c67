"""Every kernel compiled for every chip, on a machine that has none of them: one worker a chip, and a report.

What is compiled is what host code launches at production shapes: this project's own kernels in each configuration that
they may choose (`kernels`), and any path whose launches can be captured on CPU tensors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import wait
from typing import Any

from gdn_verify.emulator.crosscompile.judge import Verdict, judge
from gdn_verify.emulator.crosscompile.resources import Compiled, Resources
from gdn_verify.emulator.crosscompile.targets import CHIPS, Chip
from gdn_verify.hosts.cpu import CPU
from gdn_verify.hosts.emulated import EMULATED_CUDA
from gdn_verify.hosts.worker import Worker, WorkerDiedError
from gdn_verify.paths import registered

KERNELS = "kernels"
"""The subject that stands for this project's own Triton kernels, beside the names of paths."""

CUDA_KERNELS = "cuda-kernels"
"""The same for its kernels in CUDA C++, on NVIDIA's chips."""

OWN = "gdn_verify."
"""Where the modules of kernels begin that may not spill."""

SERVICE = "gdn_verify._crosscompile_worker:serve"

# Kernels decorated for the interpreter cannot be compiled, and an overridden architecture would be compiled instead.
_COMPILER = replace(CPU, environment={**CPU.environment, "TRITON_INTERPRET": "0", "TRITON_OVERRIDE_ARCH": ""})

_PATIENCE = 1800.0
"""Seconds of silence after which a worker hangs: longer than any one compilation is given."""


@dataclass(frozen=True)
class Row:
    """One configuration of a kernel, compiled for one chip.

    `launch` says what launched it, `configuration` its constants and options; `own` kernels may not spill.
    """

    subject: str
    launch: str
    kernel: str
    configuration: str
    chip: str
    own: bool
    compiled: Compiled

    @property
    def verdict(self) -> Verdict:
        """What is at fault here, and what is worth knowing."""
        return judge(self.compiled, CHIPS[self.chip], may_spill=not self.own)


@dataclass(frozen=True)
class NotCaptured:
    """What should have been compiled for a chip and could not be captured, and why.

    It is a fault where the subject was `required`.
    """

    subject: str
    chip: str
    reason: str
    required: bool


@dataclass(frozen=True)
class Done:
    """A worker's last word."""


@dataclass
class Report:
    """Everything compiled, and everything that was not."""

    rows: list[Row] = field(default_factory=list)
    absent: list[NotCaptured] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether something was compiled and nothing is at fault."""
        missed = any(absent.required for absent in self.absent)
        return bool(self.rows) and not missed and all(row.verdict.ok for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Plain data, each row with its verdict; `from_json` reads it back."""
        rows = [{**asdict(row), **asdict(row.verdict)} for row in self.rows]
        return {"schema": 1, "ok": self.ok, "rows": rows, "absent": [asdict(absent) for absent in self.absent]}


def from_json(body: dict[str, Any]) -> Report:
    """The report that `as_json` wrote; raises ValueError for another schema. Verdicts are derived anew."""
    if body.get("schema") != 1:
        raise ValueError(f"schema={body.get('schema')!r} of a cross-compilation report; this version reads 1")
    return Report([_row(row) for row in body["rows"]], [NotCaptured(**absent) for absent in body["absent"]])


def _row(body: dict[str, Any]) -> Row:
    known = {name: value for name, value in body.items() if name in Row.__dataclass_fields__}
    needs = known["compiled"]["resources"]
    resources = None if needs is None else Resources(**needs)
    return Row(**{**known, "compiled": Compiled(**{**known["compiled"], "resources": resources})})


def subjects() -> tuple[str, ...]:
    """Everything that can be asked for: this project's own kernels, and every path that launches Triton kernels."""
    triton = (path.name for path in registered().values() if path.kernels and EMULATED_CUDA.name not in path.hosts)
    return (KERNELS, CUDA_KERNELS, *triton)


def run(
    chips: Sequence[Chip],
    wanted: Sequence[str] = (KERNELS, CUDA_KERNELS),
    *,
    required: Collection[str] = (KERNELS,),
    workers: int | None = None,
    progress: Callable[[Row], None] = lambda row: None,
) -> Report:
    """Compile the `wanted` subjects for each of `chips`; it is a fault if one that is `required` cannot be captured."""
    waiting, report = list(chips), Report()
    limit = workers or len(os.sched_getaffinity(0))
    seats: dict[Worker, Chip] = {}
    try:
        while waiting or seats:
            while waiting and len(seats) < limit:
                chip = waiting.pop(0)
                seats[_worker((chip, tuple(wanted), frozenset(required)))] = chip
            for worker in _talking(seats):
                if _heed(worker, seats[worker], report, progress):
                    del seats[worker]
                    worker.close()
    finally:
        for worker in seats:
            worker.close()
    return report


def _worker(order: object) -> Worker:
    worker = Worker(_COMPILER, SERVICE)
    with suppress(WorkerDiedError):  # it is told when the worker is listened to
        worker.send(order)
    return worker


def _talking(seats: Iterable[Worker]) -> list[Worker]:
    by_pipe = {worker.fileno(): worker for worker in seats}
    ready = wait(list(by_pipe), timeout=_PATIENCE)
    return [by_pipe[pipe] for pipe in ready if isinstance(pipe, int)] or list(by_pipe.values())


def _heed(worker: Worker, chip: Chip, report: Report, progress: Callable[[Row], None]) -> bool:
    """Take one message of a worker; whether it was its last."""
    try:
        message = worker.receive(timeout=0.0, silence=_PATIENCE)
    except WorkerDiedError as death:
        report.absent.append(NotCaptured("the rest", chip.name, str(death), required=True))
        return True
    if isinstance(message, Row):
        report.rows.append(message)
        progress(message)
    elif isinstance(message, NotCaptured):
        report.absent.append(message)
    return isinstance(message, Done)
