"""What test workers run: each is called with the host and the pipe, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from gdn_verify.hosts import Host

# Taken while this module is imported, that is, before any target runs.
AT_IMPORT = {name: os.environ.get(name) for name in ("TRITON_INTERPRET", "OMP_NUM_THREADS")}
PREPARED = "gdn_verify.emulator.interpreter" in sys.modules


def environment(host: Host, pipe: Connection) -> None:
    """The environment as the first import saw it, and whether the host had been prepared by then."""
    pipe.send((host.name, AT_IMPORT, PREPARED))


def echo(host: Host, pipe: Connection) -> None:
    """Send back whatever comes."""
    while True:
        try:
            pipe.send(pipe.recv())
        except EOFError:
            return


def killed(host: Host, pipe: Connection) -> None:
    """Die by a signal, after a word."""
    sys.stderr.write("about to die\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def leave(host: Host, pipe: Connection) -> None:
    """End with an exit status."""
    os._exit(5)


def silent(host: Host, pipe: Connection) -> None:
    """Start a child, tell its number, and say nothing more."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pipe.send(child.pid)
    time.sleep(600)


def mute(host: Host, pipe: Connection) -> None:
    """Close the pipe and live on."""
    pipe.close()
    time.sleep(600)


def allocator(host: Host, pipe: Connection) -> None:
    """Whether torch's caching allocator is off."""
    pipe.send(os.environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING"))


def talker(host: Host, pipe: Connection) -> None:
    """Print a line, and another when the pipe is closed."""
    print("first", flush=True)  # noqa: T201 - that it prints is the point
    pipe.send("said")
    with suppress(EOFError):
        pipe.recv()
    print("last")  # noqa: T201


def descent(host: Host, pipe: Connection) -> None:
    """Its process and its forebear's parent, its threads, what is imported, and a variable; then wait for a word."""
    imported = [name for name in ("torch", "triton", "gdn_verify.kernels.delta") if name in sys.modules]
    threads = len(os.listdir("/proc/self/task"))
    pipe.send((os.getpid(), _parent(os.getppid()), threads, imported, os.environ.get("GDN_TOLD")))
    with suppress(EOFError):
        pipe.recv()


def nothing() -> None:
    """Make nothing ready."""


def threaded() -> None:
    """Make ready, and leave a thread running."""
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[1])
