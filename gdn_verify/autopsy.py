"""What a failure of a mutant becomes: the case that killed it made simple, the stage that is named, and a script.

The script runs in a folder of nothing but kernels: wrong ones, if the mutant is an edit of source, and right ones.
Another Python may run it, whose packages are not this suite's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as File

from gdn_verify.cases.codec import CaseFile, dumps, loads
from gdn_verify.cases.strategies import Fed
from gdn_verify.checks.laws import NAMES as LAWS
from gdn_verify.earlier import Seeking
from gdn_verify.facts import measure, measured_carefully
from gdn_verify.localise_command import Locating
from gdn_verify.located import Localised, Raised
from gdn_verify.mutants.catalogued import EDITS, changes
from gdn_verify.mutants.known import Known
from gdn_verify.mutants.record import Row
from gdn_verify.mutants.slipped import plant_of
from gdn_verify.mutants.sources import changed, folder
from gdn_verify.mutants.systematic import Slip
from gdn_verify.mutants.trial import Mutant
from gdn_verify.paths import Builder, find_subject
from gdn_verify.repro_command import Reproduced, Reproducing
from gdn_verify.service import Job
from gdn_verify.shrink import NotShownError, shrink
from gdn_verify.suspect import CRASH, Suspect, UnaskableError
from gdn_verify.verdict import Check

ALIVE, FIXED, UNABLE = 1, 0, 2
"""Exit statuses of a script."""
PATIENCE = 120.0
"""Seconds for which a simpler case is sought."""
HANG = 300.0
"""Seconds of silence of a case: many of them beside each other compile with cold caches for minutes."""
LONGEST = 600.0
"""Seconds that a script may take."""


@dataclass(frozen=True)
class Autopsy:
    """A mutant's failure: `case` is what killed it, `file` the simplest that shows the same.

    `stage` is what the localiser says, `expected` what the catalogue does. `silent` is a failure whose launch has right
    values, so that no script shows it. `behind` says what the process must have launched before. `wrong` and `right`
    are the script's exit statuses on the kernels with the mutant and without; None where it was not run. `trouble` says
    what could not be done.
    """

    name: str
    finding: str
    case: str = ""
    file: str = ""
    rows: int = 0
    tokens: int = 0
    geometry: tuple[int, int, int, int] = (0, 0, 0, 0)
    stage: str = ""
    expected: str = ""
    lines: int = 0
    wrong: int | None = None
    right: int | None = None
    silent: bool = False
    behind: str = ""
    shrinking: float = 0.0
    reproducing: float = 0.0
    trouble: str = ""

    @property
    def seconds(self) -> float:
        """From the failure to the script."""
        return self.shrinking + self.reproducing


def autopsy(
    mutant: Mutant, row: Row, expected: str = "", seconds: float = PATIENCE, python: str = sys.executable
) -> Autopsy:
    """Take a killed mutant's failure through all steps; the simplest case is sought for so many seconds."""
    found = Autopsy(mutant.name, f"{row.check}/{row.finding}", row.case, row.case, expected=expected)
    tables = isinstance(find_subject(row.path), Builder)
    if tables and isinstance(mutant, Slip):
        return replace(found, trouble="a table builder: slips are planted in launches alone")
    plant = plant_of(mutant) if isinstance(mutant, Slip) else mutant.plant
    started = time.perf_counter()
    try:
        found = _shrunk(found, row, plant, seconds)
    except NotShownError as error:
        behind = None if tables or row.check == Check.LAWS else _behind(found, row, plant, seconds)
        if behind is None:
            return replace(found, trouble=str(error))
        found = behind
    except (UnaskableError, RuntimeError) as error:
        return replace(found, trouble=str(error))
    found = replace(found, shrinking=time.perf_counter() - started)
    if tables:
        return replace(found, trouble="a table builder: its finding names the entry")
    return _reproduced(found, mutant, row, plant, python)


def _shrunk(found: Autopsy, row: Row, plant: str | None, seconds: float) -> Autopsy:
    first = loads(row.case)
    fed = first.case, first.presentation
    with Suspect(_job(row, first, plant), HANG) as suspect:
        target = next((shown for shown in suspect.shown(fed) if _is(found.finding, shown)), None)
        if target is None:
            raise NotShownError("the case does not show the finding by itself")
        if not suspect.job.laws:
            suspect.cheapen(fed, target)
        least = shrink(fed, lambda other: target in suspect.shown(other), seconds=seconds).fed
    return _sized(found, least)


def _behind(found: Autopsy, row: Row, plant: str | None, seconds: float) -> Autopsy | None:
    """Of a case that does not show the finding by itself: behind another of its process."""
    told, _ = measure([Seeking(row.path, row.host, row.case, found.finding, plant, seconds)])
    if not told:
        return None
    least = loads(told[0].file)
    return replace(_sized(found, (least.case, least.presentation)), file=told[0].file, behind=str(told[0]))


def _job(row: Row, first: CaseFile, plant: str | None) -> Job:
    job = Job(row.path, row.host, first.case.kind, plant=plant, tables=isinstance(find_subject(row.path), Builder))
    if row.check == Check.LAWS:
        return replace(job, laws=LAWS)
    return job if job.tables else replace(job, watches=1, replays=1, repeats=1)


def _is(finding: str, shown: str) -> bool:
    """Whether a case shows a campaign's finding: of a process that dies the two have different words."""
    return shown == finding or (finding.startswith(f"{CRASH}/") and shown.startswith(f"{CRASH}/"))


def _sized(found: Autopsy, fed: Fed) -> Autopsy:
    case, g = fed[0], fed[0].geometry
    rows = max(sum(row.live for row in batch.rows) for batch in case.batches)
    return replace(
        found, file=dumps(CaseFile(*fed)), rows=rows, tokens=sum(batch.tokens for batch in case.batches),
        geometry=(g.H, g.HV, g.K, g.V),
    )  # fmt: skip


def _reproduced(found: Autopsy, mutant: Mutant, row: Row, plant: str | None, python: str) -> Autopsy:
    started = time.perf_counter()
    made, absent = measured_carefully(partial(Reproducing, row.path, row.host, found.file, plant))
    script = made[0] if made else "; ".join(absent.values())
    spent = time.perf_counter() - started
    if not isinstance(script, Reproduced):
        located, _ = measured_carefully(partial(Locating, row.path, row.host, found.file, plant))
        stage = next((where.stage for where in located if not isinstance(where, str)), "")
        return replace(found, stage=stage, trouble=script, reproducing=time.perf_counter() - started)
    texts, lines = _texts(mutant), sum(bool(line.strip()) for line in script.script.splitlines())
    found = replace(found, stage=script.found.stage if script.found else "", lines=lines, reproducing=spent)
    wrong = None if texts is None else status(script.script, texts, python)
    silent = not isinstance(script.found, (Localised, Raised)) and not shows(wrong)
    return replace(found, silent=silent, wrong=wrong, right=status(script.script, {}, python))


def shows(status: int | None) -> bool:
    """Whether a script that ended so shows the bug: it says so, or has died of it by a signal."""
    return status is not None and (status == ALIVE or status < 0)


def _texts(mutant: Mutant) -> dict[str, str] | None:
    """The changed files, by name; None for a mutant that is a function around the path."""
    if isinstance(mutant, Slip):
        return {mutant.file: mutant.text()}
    assert isinstance(mutant, Known)
    return changed(*changes(EDITS[mutant.name])) if mutant.name in EDITS else None


def status(script: str, texts: dict[str, str], python: str = sys.executable) -> int:
    """How a script ends in a folder of nothing but kernels, some of their files with these texts."""
    with tempfile.TemporaryDirectory() as room:
        home = File(room) / "gdn_verify"
        shutil.copytree(folder(), home / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
        (home / "__init__.py").write_text('__version__ = "0"\n')
        for name, text in texts.items():
            (home / "kernels" / name).write_text(text)
        file = File(room) / "repro.py"
        file.write_text(script)
        environment = {**os.environ, "PYTHONPATH": room}
        line = [python, str(file)]
        try:
            ended = subprocess.run(line, env=environment, cwd=room, capture_output=True, check=False, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            return UNABLE
        return ended.returncode
