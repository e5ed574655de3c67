"""The end of a case against the truth about its requests: right hand-over agrees and drifts; a wrong one is found."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from gdn_verify import runner
from gdn_verify.cases.case import Batch, Case, Move, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.feed import Pools
from gdn_verify.hosts import HOSTS
from gdn_verify.moves import moved
from gdn_verify.paths.fallback import Fallback
from gdn_verify.runner import CaseResult, run_case

PLAIN = Values(
    4, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.WEAK, Betas.NORMAL, States.NORMAL, Taps.NORMAL, Fill.NORMAL
)
TABLE = (1, 0, 2)
COURSE = (
    Batch((Row(5, (1,), fresh=True), Row(1, (4,)))),
    Batch((Row(3, TABLE, accepted=1), Row(2, (4,)))),
    Batch((Row(1, TABLE, accepted=3), Row(1, (None,)), Row(1, (3,))), moves=(Move(TABLE, 3, accepted=2),)),
    Batch((Row(2, (5,), read=3), Row(2, TABLE, accepted=1))),
    Batch((Row(1, (1,)),), moves=(Move(TABLE, 1, accepted=2),)),
)


def case(dtypes: DTypes | None = None, batches: tuple[Batch, ...] = COURSE) -> Case:
    return Case(Geometry(2, 4, 8, 6, num_spec=2), dtypes or DTypes(), 6, batches, PLAIN)


def run(asked: Case, presentation: Presentation | None = None) -> CaseResult:
    return run_case(asked, presentation or Presentation(), Fallback(), HOSTS["cpu"])


@pytest.mark.parametrize("first_slot", [0, 1])
def test_a_right_path_ends_near_the_truth(first_slot: int) -> None:
    """Float32 states are off by what float32 rounds, wherever they were read, moved and committed."""
    result = run(case(), Presentation(first_slot=first_slot))
    assert not result.findings
    assert 0.0 < result.drift < 1e-6


def test_narrow_states_drift_and_no_finding() -> None:
    """Rounding at every launch is what the type costs, and no fault; nor are conv inputs that were stored narrow."""
    result = run(case(DTypes(state=DType.BF16, conv_state=DType.F16)))
    assert not result.findings
    assert 1e-3 < result.drift < 0.05


def test_one_launch_has_no_drift() -> None:
    """Its states have been judged."""
    assert run(case(batches=COURSE[:1])).drift == 0.0


def lost(pools: Pools, batch: Batch, first_slot: int, width: int) -> Pools:
    """An engine that gives the first request the state of another between two launches."""
    pools = moved(pools, batch, first_slot, width)
    if batch.moves:
        assert pools.ssm is not None
        pools.ssm[3] = pools.ssm[4]
    return pools


def test_a_state_that_is_not_handed_over_is_found() -> None:
    """Every launch is right from the bytes that it found; they were another's."""
    with patch.object(runner, "moved", lost):
        (finding,) = run(case(batches=COURSE[:3])).findings
    assert finding.kind == "state not handed over"
    assert "slot 3" in finding.message
