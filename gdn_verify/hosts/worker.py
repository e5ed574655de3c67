"""A worker process: its own environment, its own imports, and a pipe. If it dies, the run does not.

`Worker` is the parent's end. The child is `python -m gdn_verify.hosts.worker HOST TARGET FD`, or of a processor's hosts
forked (`zygote`): it prepares the host, imports TARGET ("module:function"), and calls it with host and connection.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from gdn_verify.hosts import HOSTS, Host, zygote
from gdn_verify.hosts.pin import device_for

_SOURCE = str(Path(__file__).resolve().parents[2])
_LINES = 12
"""Of what a worker printed that are kept."""
_DYING = 30.0
"""Seconds between a worker's broken pipe and its end: a core dump takes a while."""


DIED = "the worker died"
"""How the message begins of one whose process has ended."""


class WorkerDiedError(Exception):
    """The worker ended or stopped answering; the message says how, with the last lines it printed."""


class Worker:
    """A started worker. Use as a context manager: leaving it ends the process.

    `number` spreads workers over a machine's GPUs. `python` is whose packages it has, and `folders` are looked through
    before those. A processor's has torch imported, and what this suite needs of itself, unless it is `bare`; or what
    the function `ready` ("module:function") imports, by another Python too.
    """

    def __init__(
        self,
        host: Host,
        target: str,
        number: int = 0,
        python: str = sys.executable,
        folders: Sequence[str] = (),
        bare: bool = False,
        ready: str = "",
    ) -> None:
        self._pipe, theirs = Pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._read, self._unheard = 0, b""
        self._process: subprocess.Popen[bytes] | zygote.Forked
        environment = {**_environment(host, folders), **device_for(number)}
        own = bare or host.under or folders or (python != sys.executable and not ready)
        if host.device == "cpu" and not own:
            wanted, source = zygote.Wanted(host.name, target, ""), zygote.Source(python, ready or zygote.READY)
            self._process = zygote.fork(wanted, source, environment, theirs.fileno(), self._log.fileno())
        else:
            self._process = _started([*host.under, python], host, target, theirs.fileno(), environment, self._log)
        theirs.close()

    def send(self, message: Any) -> None:
        """Hand the worker a message; raises WorkerDiedError if it is gone."""
        try:
            self._pipe.send(message)
        except OSError:
            raise self._death() from None

    def receive(self, timeout: float, silence: float = 0.0) -> Any:
        """The worker's next message; raises WorkerDiedError if it dies, or stays silent for another `timeout` seconds.

        `silence` is how long it had been silent before, for the message.
        """
        try:
            if self._pipe.poll(max(timeout, 0.0)):
                return self._pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        words = self._last_words()
        self.close()
        raise WorkerDiedError(f"no answer for {timeout + silence:.0f} s (hang){words}")

    def fileno(self) -> int:
        """The pipe's descriptor, so that several workers can be waited for at once."""
        return self._pipe.fileno()

    def printed(self) -> str:
        """What it has printed since this was last asked; of one that is closed, what nobody had asked for."""
        self._take_log()
        text, self._unheard = self._unheard.decode(errors="replace"), b""
        return text

    def finish(self, patience: float) -> None:
        """Let the process end by itself, as one does whose pipe is closed, and wait so long for it; then `close`."""
        self._pipe.close()
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            self._process.wait(timeout=patience)

    def end(self) -> None:
        """End the process and everything it started, without waiting for it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its compilers too, where it is gone itself

    def close(self) -> None:
        """`end`, and wait until it has: a driver may take seconds to let a process go."""
        self.end()
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            self._process.wait(timeout=_DYING)  # a process in the driver's hands may never end
        self._pipe.close()
        self._take_log()
        self._log.close()

    def _take_log(self) -> None:
        # By `pread`: the process writes where this file's own position is.
        while not self._log.closed and (text := os.pread(self._log.fileno(), 1 << 20, self._read)):
            self._read += len(text)
            self._unheard += text

    def _death(self) -> WorkerDiedError:
        try:
            code = self._process.wait(timeout=_DYING)
        except subprocess.TimeoutExpired:
            return WorkerDiedError(f"the worker closed its pipe and lives on{self._last_words()}")
        except ProcessLookupError as error:
            return WorkerDiedError(f"{error}{self._last_words()}")
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return WorkerDiedError(f"{DIED}: {how}{self._last_words()}")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        # Of a crash the newest call stands first, and a deep stack pushes it out of the last lines.
        crash = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
        begin = crash[-1] if crash else max(len(lines) - _LINES, 0)
        return "".join(f"\n    {line}" for line in lines[begin : begin + _LINES])

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _started(
    command: Sequence[str], host: Host, target: str, pipe: int, environment: Mapping[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, "-P", "-m", __name__, host.name, target, str(pipe)],
        env=environment,
        pass_fds=[pipe],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _environment(host: Host, folders: Sequence[str] = ()) -> dict[str, str]:
    path = os.pathsep.join(p for p in (_SOURCE, *folders, os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, **host.environment, "PYTHONPATH": path}


def main(host_name: str, target: str, fd: str) -> None:
    """The child's life: prepare, import, serve."""
    faulthandler.enable()
    host, pipe = HOSTS[host_name], Connection(int(fd))
    if host.missing() is None:
        host.prepare()
    module, function = target.split(":")
    getattr(importlib.import_module(module), function)(host, pipe)


if __name__ == "__main__":
    main(*sys.argv[1:])
