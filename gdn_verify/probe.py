"""What can run here: asked of a worker, so that a broken package or driver cannot harm the asking process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection

from gdn_verify.hosts import HOSTS, Host
from gdn_verify.hosts.worker import Worker, WorkerDiedError
from gdn_verify.paths import find, registered
from gdn_verify.service import absence

TARGET = "gdn_verify.probe:answer"
PATIENCE = 180.0


@dataclass(frozen=True)
class Probe:
    """Whether something runs, and the version or device, or the reason and the remedy."""

    runs: bool
    words: str

    def __str__(self) -> str:
        return self.words if self.runs else f"missing: {self.words}"


def answer(host: Host, pipe: Connection) -> None:
    """The worker's side: one answer for the host, then one for each path on it."""
    reason = host.missing()
    pipe.send(("", Probe(False, reason) if reason else Probe(True, host.describe())))
    for path in registered().values():
        if host.name in path.hosts:
            pipe.send((path.name, _probe_path(path.name, host)))


def _probe_path(name: str, host: Host) -> Probe:
    path = find(name)
    if reason := absence(path, host):
        return Probe(False, reason)
    try:
        return Probe(True, path.load(host.name))
    except Exception as error:
        return Probe(False, f"does not import: {type(error).__name__}: {error}")


@cache
def _answers(host: str) -> dict[str, Probe]:
    count = 1 + sum(host in path.hosts for path in registered().values())
    found: dict[str, Probe] = {}
    try:
        with Worker(HOSTS[host], TARGET) as worker:
            for _ in range(count):
                name, seen = worker.receive(PATIENCE)
                found[name] = seen
    except WorkerDiedError as death:
        found.setdefault("", Probe(False, str(death)))
        return {**dict.fromkeys(registered(), Probe(False, str(death))), **found}
    return found


def probe(host: str, path: str = "") -> Probe:
    """Whether `path` ("" for the host itself) can run on `host`."""
    return _answers(host)[path]
