"""What can run here: asked of a worker, so that a broken package or driver cannot harm the asking process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection

from gdn_verify.hosts import HOSTS, Host
from gdn_verify.hosts.worker import Worker, WorkerDiedError
from gdn_verify.paths import find_subject, subjects
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
    """The worker's side: the host for "", else the path of that name on it, until the parent closes the pipe."""
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        pipe.send(_probe_path(name, host) if name else _probe_host(host))


def _probe_host(host: Host) -> Probe:
    reason = host.missing()
    return Probe(False, reason) if reason else Probe(True, host.describe())


def _probe_path(name: str, host: Host) -> Probe:
    path = find_subject(name)
    if reason := absence(path, host):
        return Probe(False, reason)
    try:
        return Probe(True, path.load(host.name))
    except Exception as error:
        return Probe(False, f"does not import: {type(error).__name__}: {error}")


@cache
def _answers(host: str) -> dict[str, Probe]:
    names = ["", *(path.name for path in subjects().values() if host in path.hosts)]
    found: dict[str, Probe] = {}
    while waiting := [name for name in names if name not in found]:
        found |= _ask(host, waiting)
    return found


def _ask(host: str, names: list[str]) -> dict[str, Probe]:
    """One worker's answers, up to the path whose import ends it; where the host itself does, nothing runs there."""
    found: dict[str, Probe] = {}
    with Worker(HOSTS[host], TARGET) as worker:
        for name in names:
            try:
                worker.send(name)
                found[name] = worker.receive(PATIENCE)
            except WorkerDiedError as death:
                dead = Probe(False, str(death))
                return {**found, name: dead} if name else dict.fromkeys(names, dead)
    return found


@cache
def absence_of(host: str) -> str | None:
    """Why nothing can run on `host`, or None; no path is loaded to find out."""
    seen = _ask(host, [""])[""]
    return None if seen.runs else seen.words


def probe(host: str, path: str = "") -> Probe:
    """Whether `path` ("" for the host itself) can run on `host`."""
    return _answers(host)[path]
