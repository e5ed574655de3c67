"""The worker's side of `crosscompile`: capture what each subject launches on one chip, compile it, tell the parent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing.connection import Connection

from gdn_verify._crosscompile_cuda import cuda_kernels
from gdn_verify._crosscompile_feed import production
from gdn_verify.crosscompile import CUDA_KERNELS, KERNELS, OWN, Done, NotCaptured, Row
from gdn_verify.emulator.crosscompile.capture import CapturedLaunch, capture
from gdn_verify.emulator.crosscompile.compile import compile_launch
from gdn_verify.emulator.crosscompile.resources import Compiled
from gdn_verify.emulator.crosscompile.standin import stand_in
from gdn_verify.emulator.crosscompile.targets import Chip
from gdn_verify.hosts import Host
from gdn_verify.hosts.emulated import EMULATED_CUDA
from gdn_verify.paths import Launch, Path, find

Launching = tuple[str, Callable[[], object]]
"""What to call a launch, and how to make it."""


class UncapturableError(Exception):
    """A subject has no launches on this chip; the message says why."""


def serve(host: Host, pipe: Connection) -> None:
    """Answer one order: a chip, the subjects to compile for it, and those of them that are required."""
    chip, subjects, required = pipe.recv()
    compiled: dict[str, Compiled] = {}
    with stand_in(chip):
        for subject in subjects:
            if subject == CUDA_KERNELS:
                for answer in cuda_kernels(chip, subject in required):
                    pipe.send(answer)
                continue
            for found in _captured(subject, chip):
                if isinstance(found, str):
                    pipe.send(NotCaptured(subject, chip.name, found, subject in required))
                    continue
                label, launch = found
                if launch.key not in compiled:
                    compiled[launch.key] = compile_launch(launch, chip)
                pipe.send(_row(subject, label, launch, chip, compiled[launch.key]))
    pipe.send(Done())


def _row(subject: str, label: str, launch: CapturedLaunch, chip: Chip, came: Compiled) -> Row:
    own = launch.module.startswith(OWN)
    return Row(subject, label, launch.name, launch.configuration, chip.name, own, came)


def _captured(subject: str, chip: Chip) -> Iterator[tuple[str, CapturedLaunch] | str]:
    """Each launch of a subject once, with its label; a sentence in the place of what was not captured."""
    seen: set[str] = set()
    names: list[str] = []
    try:
        path = None if subject == KERNELS else find(subject)
        for label, make in _samples() if path is None else _launches(path, chip):
            with capture(chip) as launches:
                problem = _attempt(make)
            if problem or not launches:
                yield f"{label}: {problem or 'no Triton kernel was launched'}"
            names += [launch.name for launch in launches]
            yield from ((label, launch) for launch in launches if launch.key not in seen)
            seen |= {launch.key for launch in launches}
        if path and (lacking := [kernel for kernel in path.kernels if not any(kernel in name for name in names)]):
            yield f"{', '.join(lacking)}: declared, and not launched"
    except Exception as error:
        yield _words(error)


def _attempt(make: Callable[[], object]) -> str:
    """What the host code raised, "" if nothing."""
    try:
        make()
    except Exception as error:
        return _words(error)
    return ""


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, UncapturableError) else f"{type(error).__name__}: {error}"


def _samples() -> Iterable[Launching]:
    """Every configuration of this project's kernels that may be chosen on this chip."""
    from gdn_verify.kernels.triton.samples import samples

    return ((f"{sample.kernel} {sample.configuration}", sample.launch) for sample in samples())


def _launches(path: Path, chip: Chip) -> Iterator[Launching]:
    """A path at production shapes, one launch of each kind of rows that it takes."""
    if chip.host not in path.hosts:
        raise UncapturableError(f"the path runs on {', '.join(path.hosts)}")
    if missing := path.missing(chip.host):
        raise UncapturableError(str(missing))
    if not path.kernels:
        raise UncapturableError("the path declares no Triton kernel")
    if EMULATED_CUDA.name in path.hosts:
        raise UncapturableError(f"the path's kernels are CUDA C++; {CUDA_KERNELS} stands for them")
    path.load(chip.host)
    yield from ((label, partial(_run, path, launch)) for label, launch in production(path))


def _run(path: Path, launch: Launch | str) -> None:
    if isinstance(launch, str):
        raise UncapturableError(f"refused: {launch}")
    path.run(launch)
