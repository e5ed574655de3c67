"""transformers' layers as paths: the module's own functions run, and a mistake in any of them shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry, Kind, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.hosts import HOSTS
from gdn_verify.paths import Missing, find
from gdn_verify.paths.transformers_layer import MODELS, REPLACED
from gdn_verify.runner import run_case
from gdn_verify.service import Job, draw
from gdn_verify.verdict import Finding

LAYERS = [f"transformers-{name}" for name in MODELS]
pytestmark = pytest.mark.skipif(
    isinstance(find(LAYERS[0]).missing("cpu"), Missing), reason="pip install 'gdn-verify[transformers]'"
)


def findings(name: str, kind: Kind, count: int = 4) -> list[Finding]:
    """What comes of some cases of a kind, run here."""
    path = find(name)
    path.load("cpu")
    drawn = draw(Job(name, "cpu", kind, count=count, seed=3), path)
    return [found for (case, shown), _ in drawn for found in run_case(case, shown, path, HOSTS["cpu"]).findings]


@pytest.mark.parametrize(
    "name", [*LAYERS, *(pytest.param(f"{name}-bfloat16", marks=pytest.mark.slow) for name in LAYERS)]
)
@pytest.mark.parametrize("kind", [Kind.DECODE, pytest.param(Kind.MIXED, marks=pytest.mark.slow)])
def test_the_layers_agree_with_the_oracle(name: str, kind: Kind) -> None:
    """Decode steps take its other functions than prompts; where FLA is installed, its kernels would run instead."""
    assert not findings(name, kind)


def _off_by_a_thousandth(result: Any) -> Any:
    if isinstance(result, tuple):
        return (result[0] * 1.001, *result[1:])
    return result * 1.001


def _forgets_the_state(result: Any) -> Any:
    return result[0], torch.zeros_like(result[1])


@pytest.mark.parametrize("function", REPLACED)
def test_a_mistake_in_any_function_shows(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two that a prompt takes, and the two of a decode step."""
    name = LAYERS[1]
    kind = Kind.DECODE if function in ("torch_recurrent_gated_delta_rule", "causal_conv1d_update") else Kind.PREFILL
    _planted(monkeypatch, name, function, _off_by_a_thousandth)
    assert findings(name, kind)


@pytest.mark.parametrize("function", ["torch_recurrent_gated_delta_rule", "torch_chunk_gated_delta_rule"])
def test_a_state_that_is_lost_shows(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache keeps what the function returns."""
    _planted(monkeypatch, LAYERS[0], function, _forgets_the_state)
    assert findings(LAYERS[0], Kind.DECODE if "recurrent" in function else Kind.PREFILL)


@pytest.mark.parametrize("hides", [True, False])
def test_a_mask_that_hides_nothing_shows(hides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two prompts the shorter is padded on the left."""
    module, path = pytest.importorskip(MODELS["qwen3-5"].module), find(LAYERS[1])
    if not hides:
        monkeypatch.setattr(module, "apply_mask_to_padding_states", lambda hidden, mask: hidden)
    rows = (Row(1, (0,), fresh=True), Row(5, (1,), fresh=True))
    case = Case(Geometry(1, 2, 8, 8), DTypes(), 2, (Batch(rows),))
    result = run_case(case, Presentation(state_order=StateOrder.KV), path, HOSTS["cpu"])
    assert not result.refused
    assert bool(result.findings) is not hides


def _planted(monkeypatch: pytest.MonkeyPatch, name: str, function: str, mistake: Callable[[Any], Any]) -> None:
    from importlib import import_module
    from inspect import unwrap

    module = import_module(find(name).model.module)  # type: ignore[attr-defined]
    healthy = unwrap(getattr(module, function))
    monkeypatch.setattr(module, function, lambda *given, **named: mistake(healthy(*given, **named)))
