"""Paths whose kernels are compiled for the slots of a pool, and kept without a word of it: cases have one pool each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gdn_verify import service
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.contract import Conventions, DTypes, Geometry, IdRule, Kind, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.spare import enough, spared
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.hosts import HOSTS
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.fallback import Fallback
from gdn_verify.paths.relay import Relay
from gdn_verify.runner import CaseResult
from gdn_verify.service import Ended, Job
from gdn_verify.verdict import Check, Outcome

ROW = Case(Geometry(1, 2, 8, 8), DTypes(), 1, (Batch((Row(1, (0,)),)),))


class Keeping(Fallback):
    """The fallback, as if it were compiled: a geometry's second pool of another size is refused."""

    def __init__(self, says: bool) -> None:
        self.says = says
        self.kept: dict[Geometry, int] = {}

    def one_pool(self, presentation: Presentation) -> bool:
        return self.says

    def run(self, launch: Launch) -> Outputs:
        slots = len(launch["ssm_pool"])
        if self.kept.setdefault(launch.geometry, slots) != slots:
            raise ValueError(f"Mismatched shape[0]: {slots}")
        return super().run(launch)


def results(path: Keeping, *jobs: Job) -> Iterator[CaseResult]:
    """What the jobs of one worker come to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "find_subject", lambda name: path)
        loaded = service._Loaded()
        for job in jobs:
            said = [*service._answer(job, HOSTS["cpu"], loaded, lambda event: None)]
            yield from (event.result for event in said if isinstance(event, Ended))


def jobs() -> Iterator[Job]:
    """Cases of few geometries, drawn in several ways, and one from a file."""
    topics: tuple[Topic, ...] = (Kind.DECODE, Kind.SPEC, Series.TRAJECTORY)
    yield from (Job("keeping", "cpu", topic, count=4, seed=3, shapes=2) for topic in topics)
    file = dumps(CaseFile(ROW, Presentation(first_slot=1)))
    yield Job("keeping", "cpu", Kind.DECODE, count=2, files=(file, dumps(CaseFile(replace(ROW, slots=3)))))


def test_a_path_that_says_so_gets_one_pool_a_geometry() -> None:
    """Whatever draws a case, and of files too; nothing that is right looks wrong by it."""
    judged = [*results(Keeping(says=True), *jobs())]
    assert not [finding for result in judged for finding in result.findings]
    assert sum(result.outcome(Check.VALUES) is Outcome.AGREES for result in judged) > len(judged) / 2


def test_one_that_does_not_is_red() -> None:
    """What it raises is a finding: a server that is started again with more memory meets it too."""
    judged = [*results(Keeping(says=False), *jobs())]
    assert "raised ValueError" in {finding.kind for result in judged for finding in result.findings}


def test_laws_on_another_pool_are_not_asked() -> None:
    """A law that takes more slots would be another kernel's."""
    laws = ("slots", "kinds", "repeat")
    job = Job("keeping", "cpu", Kind.DECODE, count=4, seed=5, shapes=2, laws=laws)
    judged = [*results(Keeping(says=True), job)]
    assert not [finding for result in judged for finding in result.findings]
    kinds = [result.laws["kinds"] for result in judged if result.laws]
    assert any("another pool than that of" in law.reason for law in kinds)


def test_spare_slots_leave_no_id_of_padding_in_the_pool() -> None:
    """What lay beyond the pool is a slot of the larger one."""
    beyond = Conventions(pads=((Stage.DELTA, IdRule.OUTSIDE),))
    case, shown = spared((ROW, Presentation(sentinel=ROW.slots)), beyond)
    assert case.slots == enough(ROW.geometry)
    assert shown.sentinel in beyond.pad_ids(case.slots)
    larger = replace(ROW, slots=2 * case.slots)
    assert spared((larger, Presentation()), beyond)[0] == larger


def test_a_relay_has_one_pool_if_a_member_has() -> None:
    """The states are handed on in it."""
    assert Relay([Keeping(says=False), Keeping(says=True)]).one_pool(Presentation())
    assert not Relay([Keeping(says=False), Keeping(says=False)]).one_pool(Presentation())
