"""Fake paths for a worker under a fake tool: they print what a tool would, at one moment each."""

from __future__ import annotations

import os
from collections.abc import Iterable

import recorded_reports as recorded
from fake_paths import Fake, Trouble, _double

from gdn_verify.paths import Launch, Path


def _tell(*reports: str) -> Trouble:
    def trouble(launch: Launch) -> None:
        os.write(1, "".join(reports).encode())

    return trouble


def _tell_and_die(launch: Launch) -> None:
    os.write(1, recorded.OUT_OF_BOUNDS.encode())
    os._exit(3)


def _tell_and_raise(launch: Launch) -> None:
    os.write(1, recorded.OUT_OF_BOUNDS.encode())
    raise RuntimeError("CUDA error: unspecified launch failure")


class AtLoad(Fake):
    """A kernel that its import launches is out of bounds."""

    def load(self, host: str) -> str:
        os.write(1, recorded.OUT_OF_BOUNDS.encode())
        return "1.0"


class AtExit(Fake):
    """What the tool tells of it comes when the worker ends."""

    def load(self, host: str) -> str:
        import atexit

        atexit.register(os.write, 1, recorded.OUT_OF_BOUNDS.encode())
        return "1.0"


def paths() -> Iterable[Path]:
    """What the entry point gives. Their cases are those of `fake_paths.case_files`, told apart by K."""
    return (
        Fake("silent"),
        Fake("far-16", at={16: _tell(recorded.OUT_OF_BOUNDS, recorded.NEIGHBOUR)}),
        Fake("racing-24", at={24: _tell(recorded.RACE)}),
        Fake("reading-40", at={40: _tell(recorded.UNINITIALISED)}),
        Fake("borrowing-16", at={16: _tell(recorded.READ_BY_TORCH)}),
        Fake("wrong-16", at={16: _double}),
        Fake("dying-24", at={24: _tell_and_die}),
        Fake("raising-24", at={24: _tell_and_raise}),
        AtLoad("at-load"),
        AtExit("at-exit"),
    )
