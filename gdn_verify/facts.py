"""Facts about paths that are measured, not judged: each question in a worker of its own, several beside each other."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Protocol, TypeVar

from gdn_verify.hosts import HOSTS, Host
from gdn_verify.hosts.worker import DIED, Worker, WorkerDiedError
from gdn_verify.paths import Path, find
from gdn_verify.service import absence

TARGET = "gdn_verify.facts:answer"
PATIENCE = 3600.0
Answer = TypeVar("Answer")
Told = TypeVar("Told", covariant=True)


class Question(Protocol[Told]):
    """What to measure of a path on a host; it travels to the worker."""

    @property
    def path(self) -> str:
        """The path's name."""

    @property
    def host(self) -> str:
        """The host's."""

    def measured(self, path: Path, host: Host) -> Sequence[Told]:
        """The answers, once the path is loaded."""


def measure(
    wanted: Sequence[Question[Answer]],
    *,
    workers: int | None = None,
    progress: Callable[[Question[Answer]], None] = lambda question: None,
) -> tuple[list[Answer], dict[tuple[str, str], str]]:
    """The answers in order, and by path and host why others could not be had."""
    answers = ask(wanted, workers=workers, progress=progress)
    found: list[Answer] = []
    for each in answers:
        found += [] if isinstance(each, str) else each
    absent = {(q.path, q.host): a for q, a in zip(wanted, answers, strict=True) if isinstance(a, str)}
    return found, absent


def measured_carefully(
    question: Callable[..., Question[Answer]],
) -> tuple[list[Answer], dict[tuple[str, str], str]]:
    """`measure` of the one that is made; of the one made with `careful=True` where a worker dies of that."""
    found, absent = measure([question()])
    if any(reason.startswith(DIED) for reason in absent.values()):
        return measure([question(careful=True)])
    return found, absent


def ask(
    wanted: Sequence[Question[Answer]],
    *,
    workers: int | None = None,
    progress: Callable[[Question[Answer]], None] = lambda question: None,
) -> list[Sequence[Answer] | str]:
    """For each question its answers, or why there are none."""
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda question: _ask(question, progress), wanted))


def _ask(question: Question[Answer], progress: Callable[[Question[Answer]], None]) -> Sequence[Answer] | str:
    try:
        with Worker(HOSTS[question.host], TARGET) as worker:
            worker.send(question)
            answer: Sequence[Answer] | str = worker.receive(PATIENCE)
    except WorkerDiedError as death:
        answer = str(death)
    progress(question)
    return answer


def answer(host: Host, pipe: Connection) -> None:
    """The worker's side: one question; the answers, or the reason why there are none."""
    question: Question[object] = pipe.recv()
    path = find(question.path)
    if reason := absence(path, host):
        pipe.send(reason)
        return
    try:
        path.load(host.name)
        host.pin(path.configuration or 0)
        pipe.send(question.measured(path, host))
    except Exception:
        pipe.send(traceback.format_exc(limit=-4).strip())
