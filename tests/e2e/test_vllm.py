"""vLLM itself: its layers on the float64 oracle say transformers' tokens, and what went wrong in one is told.

These run where vLLM is (`tox -e e2e` has it); elsewhere the stand-ins beside this file have to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path as File

import pytest

from gdn_verify.e2e.checkpoint import Checkpoint, Kind
from gdn_verify.e2e.difference import equal_tokens
from gdn_verify.e2e.scenario import BRIEF
from gdn_verify.e2e.session import REFERENCE, Model, Session
from gdn_verify.e2e.variant import Variant, variant

pytestmark = pytest.mark.skipif(
    find_spec("vllm") is None,
    reason="vLLM is not here: pip install --no-deps -r requirements/e2e.txt (in an environment of its own: tox -e e2e)",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(str(tmp_path_factory.mktemp("models")), Checkpoint(Kind.QWEN3_5))


@pytest.fixture(scope="module")
def session(model: Model) -> Iterator[Session]:
    with Session(model, BRIEF.settings) as opened:
        yield opened


def test_the_oracle_in_vllm_says_what_transformers_says(model: Model, session: Session) -> None:
    """Every token, in float32, and the scenario has happened."""
    said = session.transcript(BRIEF, Variant("oracle"))
    assert not said.problems
    assert all(said.events.get(event) for event in BRIEF.expects)
    with Session(model, BRIEF.settings, target=REFERENCE) as reference:
        assert equal_tokens(reference.transcript(BRIEF), said) == (18, 18)


def test_a_core_led_along_other_tokens_says_those(session: Session) -> None:
    """Also where it would not have chosen them."""
    free = session.transcript(BRIEF, variant("dispatch-o!dropped_decay"))
    led = session.transcript(BRIEF, Variant("oracle"), forced=free)
    assert [request.tokens for request in led.requests] == [request.tokens for request in free.requests]
    assert any(step.token != step.best for request in led.requests for step in request.steps)


def test_a_fault_in_vllm_becomes_a_case(session: Session) -> None:
    """On the path that was in its place; of a right one none is made."""
    seen = session.watched(BRIEF, variant("dispatch-o!dropped_decay"))
    assert seen.wrong is not None
    assert seen.wrong.case
    assert seen.wrong.path == "dispatch-o"
    assert session.watched(BRIEF, variant("dispatch-o")).wrong is None


def test_a_look_ends_where_something_is_wrong_and_leaves_no_trace(session: Session) -> None:
    """What the engine is asked next has the same answer as before."""
    before = session.transcript(BRIEF, Variant("oracle"))
    seen = session.watched(BRIEF, variant("dispatch-o!dropped_decay"))
    assert seen.launches < session.watched(BRIEF, variant("dispatch-o")).launches
    assert session.transcript(BRIEF, Variant("oracle")).requests == before.requests


def test_vllm_s_own_core_refuses_float32_and_is_outlived(session: Session) -> None:
    """The engine goes on to serve another core."""
    assert "BF16" in session.transcript(BRIEF, Variant("stock")).raised
    assert not session.transcript(BRIEF, Variant("oracle")).raised


def test_models_are_made_once(model: Model) -> None:
    """One folder, whoever asks."""
    (folder,) = (path for path in File(model.root).iterdir() if path.name.startswith("qwen"))
    assert (folder / "model.safetensors").exists()
