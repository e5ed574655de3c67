"""Which cases come by which lines of the kernels' sources, so that a mutant is tried where it can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gdn_verify.cases.strategies import Fed
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants.sources import folder
from gdn_verify.paths import find_subject
from gdn_verify.runner import Effort
from gdn_verify.service import Job, Trial

Lines = dict[str, dict[int, frozenset[int]]]
"""By file of the kernels and line: the numbers of the cases that come by."""


def lines_of(job: Job, drawn: Sequence[tuple[Fed, bytes]]) -> Lines:
    """Where these cases of a job come by. They are run once, not watched, and only the first is replayed.

    Raises ImportError without the package coverage, and what the suite itself raises: a path's own errors are results.
    """
    from coverage import Coverage

    subject, host = find_subject(job.path), HOSTS[job.host]
    subject.load(job.host)
    watch = Coverage(data_file=None, include=[f"{folder()}/*"], config_file=False)
    bare = replace(job, watches=0, replays=min(job.replays, 1), repeats=0)
    trial = Trial(bare, subject, host, lambda message: None)
    for number, (fed, _) in enumerate(drawn):
        watch.start()
        watch.switch_context(str(number))
        trial.run(fed, number, Effort.HASTY)
        watch.stop()
    data = watch.get_data()
    return {
        str(name).removeprefix(f"{folder()}/"): {
            line: frozenset(int(context) for context in contexts if context)
            for line, contexts in data.contexts_by_lineno(name).items()
        }
        for name in data.measured_files()
    }


def passing(lines: Mapping[Job, Lines], file: str, first: int, last: int) -> dict[Job, frozenset[int]]:
    """The jobs with cases that come by one of these lines, and the numbers of those cases.

    A line outside every function is come by when the module is imported: all cases that use the file count.
    """
    found = {job: _by(places.get(file, {}), range(first, last + 1)) for job, places in lines.items()}
    if not any(found.values()):
        found = {job: _by(places.get(file, {}), places.get(file, {})) for job, places in lines.items()}
    return {job: numbers for job, numbers in found.items() if numbers}


def _by(places: Mapping[int, frozenset[int]], wanted: range | Mapping[int, frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*(places.get(line, frozenset()) for line in wanted))
