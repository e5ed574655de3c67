"""Drift as a report: small where states are wide, larger where they are narrow, and found where a state forgets."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from rich.console import Console

from gdn_verify import drift
from gdn_verify.cases.contract import DType
from gdn_verify.facts import measure
from gdn_verify.hosts import HOSTS
from gdn_verify.kernels import fallback
from gdn_verify.paths import find
from gdn_verify.report.drift import as_json, show

STEPS = (1, 16, 64)
CPU = HOSTS["cpu"]


def measured(state: DType, name: str = "fallback") -> list[drift.Drift]:
    path = find(name)
    path.load("cpu")
    return drift.measure(path, CPU, state, STEPS)


def test_each_step_asked_for_is_reported() -> None:
    """In order, with the names that a reader needs."""
    found = measured(DType.F32)
    assert [(d.path, d.host, d.state, d.steps) for d in found] == [("fallback", "cpu", DType.F32, n) for n in STEPS]
    assert all(0.0 < error < 0.01 for d in found for error in (d.output_error, d.state_error))


def test_narrow_states_drift_farther() -> None:
    """A bfloat16 pool rounds at every launch, and forgets slowly."""
    narrow, wide = measured(DType.BF16), measured(DType.F32)
    assert narrow[-1].state_error > 2.0 * wide[-1].state_error
    assert narrow[-1].state_error > 2.0 * narrow[0].state_error


def test_a_factor_too_small_to_fail_a_launch_shows_over_many() -> None:
    """A gate off by a thousandth of itself adds up."""
    right = fallback.gates

    def slower(*args: object, **kwargs: object) -> object:
        g, beta = right(*args, **kwargs)  # type: ignore[arg-type]
        return 0.99 * g, beta

    before = measured(DType.F32)
    with patch.object(fallback, "gates", slower):
        after = measured(DType.F32)
    assert after[-1].state_error > 1.05 * before[-1].state_error


def test_dense_states_are_carried_from_launch_to_launch() -> None:
    """A path that gives its states back drifts as one that keeps them."""
    path = find("transformers-recurrent")
    if missing := path.missing("cpu"):
        pytest.skip(str(missing))
    last = measured(DType.F32, "transformers-recurrent")[-1]
    assert 0.0 < last.state_error < 1e-5


def test_drafts_of_one_token_stand_in_for_decode_steps() -> None:
    """Where a path verifies drafts alone."""
    case, _ = drift.course(find("fused-spec"), DType.BF16, 3)
    assert all(row.spec for batch in case.batches for row in batch.rows)
    assert case.dtypes.state is case.dtypes.activation is DType.BF16


def test_a_worker_answers_and_the_report_shows_it() -> None:
    """A path that cannot run is missing, with its reason; the rest is a table, and data."""
    every = drift.questions([find("fallback")], ["cpu"], (1, 2))
    assert [question.state for question in every] == list(DType)
    found, absent = measure([every[0], drift.DriftOf("fallback", "rocm", DType.F32, (1,))], workers=1)
    assert [row.steps for row in found] == [1, 2]
    assert list(absent) == [("fallback", "rocm")]
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(found, absent, console)
    text = console.export_text()
    assert "state @2" in text
    assert "missing: fallback on rocm" in text
    assert as_json(found, absent)["rows"][0]["state"] == "float32"
