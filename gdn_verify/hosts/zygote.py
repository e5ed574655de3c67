"""A process that has imported what workers need, and becomes one as often as it is asked: torch is imported once.

For a processor's hosts alone, as no card's driver may be forked. Everything has one thread there, which a fork keeps.
Kernels, paths and Triton are imported by the worker that it becomes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from select import select
from struct import Struct
from threading import Lock
from typing import NamedTuple

READY = "gdn_verify.service:ready"
"""The function that makes ready what nearly every worker needs."""
_MOST = 1 << 20
"""Bytes of a request."""
_NUMBER = Struct("i")
_OF_THE_MOMENT = ("PYTEST_CURRENT_TEST", "TRITON_INTERPRET", "TRITON_OVERRIDE_ARCH", "GDN_EMULATE_CUDA")
"""Variables that nothing reads until then."""


class Wanted(NamedTuple):
    """What a fork is to be: `worker.main`'s arguments."""

    host: str
    target: str
    pipe: str


class Source(NamedTuple):
    """What workers are forked of: whose packages it has, and the function that imports what they need."""

    python: str = sys.executable
    ready: str = READY


class Forked:
    """A forked worker, as `subprocess.Popen` shows a started one: `pid`, and `wait`."""

    def __init__(self, told: int) -> None:
        self._told, self._numbers = told, list[int]()

    @property
    def pid(self) -> int:
        """Its process, and the group of what it started; raises ProcessLookupError where there never was one."""
        self._listen(1, None)
        return self._numbers[0]

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal; raises TimeoutExpired, and ProcessLookupError as above."""
        self._listen(2, timeout)
        return self._numbers[1]

    def _listen(self, count: int, timeout: float | None) -> None:
        while len(self._numbers) < count:
            if not select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
            number = os.read(self._told, _NUMBER.size)
            if not number:
                raise ProcessLookupError("the process that forks workers is gone")
            self._numbers += _NUMBER.unpack(number)

    def __del__(self) -> None:
        os.close(self._told)


class Zygote:
    """The parent's end."""

    def __init__(self, source: Source, environment: Mapping[str, str], log: int) -> None:
        """Start it; what it prints before it is anything goes to `log`, a descriptor."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [source.python, "-P", "-m", __name__, str(theirs.fileno()), source.ready],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        theirs.close()

    def close(self) -> None:
        """Let it end; the workers that it became live on."""
        self._socket.close()
        self._process.wait()

    @property
    def lives(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def fork(self, wanted: Wanted, environment: Mapping[str, str], pipe: int, log: int) -> Forked:
        """Have a worker that talks by `pipe` and prints to `log`."""
        told, tell = os.pipe()
        request = json.dumps([*wanted[:2], dict(environment)]).encode()
        with suppress(OSError):  # it died since: the worker's pipe is closed, and tells
            socket.send_fds(self._socket, [request], [pipe, log, tell])
        os.close(tell)
        return Forked(told)


_ZYGOTES: dict[tuple[Source, frozenset[tuple[str, str]]], Zygote] = {}
"""By source and environment, as some of what is imported reads it then; the one that was asked last comes last."""
_ONE_AT_A_TIME = Lock()
_KEPT = 2
"""So many, as each takes 300 MB."""


def fork(wanted: Wanted, source: Source, environment: Mapping[str, str], pipe: int, log: int) -> Forked:
    """A worker with this environment, of the process that has imported under such a one."""
    known = frozenset((name, value) for name, value in environment.items() if name not in _OF_THE_MOMENT)
    with _ONE_AT_A_TIME:
        zygote = _ZYGOTES.pop((source, known), None)
        if zygote is None or not zygote.lives:
            zygote = Zygote(source, dict(known), log)
        _ZYGOTES[source, known] = zygote
        if len(_ZYGOTES) > _KEPT:
            _ZYGOTES.pop(next(iter(_ZYGOTES))).close()
        return zygote.fork(wanted, environment, pipe, log)


def _become(control: socket.socket) -> Wanted | None:
    """In each fork, what it is to be; in the first process, None at last, when nobody can ask any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    while True:
        request, descriptors, *_ = socket.recv_fds(control, _MOST, 3)
        if not request:
            return None
        if os.fork() == 0:
            control.close()
            return _kept(request, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _kept(request: bytes, pipe: int, log: int, tell: int) -> Wanted:
    """Fork once more: one tells how the other ends, and leaves."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker = os.fork()
    if worker:
        os.close(pipe)
        _, status = os.waitpid(worker, 0)
        os.write(tell, _NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    os.setsid()
    os.write(tell, _NUMBER.pack(os.getpid()))
    os.close(tell)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    host, target, environment = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    return Wanted(host, target, str(pipe))


def main(fd: str, ready: str) -> None:
    """The zygote's life, and that of each worker that it becomes. Raises RuntimeError if a fork would lose threads."""
    module, function = ready.split(":")
    getattr(import_module(module), function)()
    with suppress(FileNotFoundError):  # no /proc
        if (threads := len(os.listdir("/proc/self/task"))) > 1:
            raise RuntimeError(f"{ready} has left {threads} threads, of which a fork would keep one")
    wanted = _become(socket.socket(fileno=int(fd)))
    if wanted is not None:
        import_module("gdn_verify.hosts.worker").main(*wanted)


if __name__ == "__main__":
    main(*sys.argv[1:])
