"""Tiny models: the same bytes each time, outputs that vary, and a state that reaches far back."""

from __future__ import annotations

from pathlib import Path as File

import pytest
import torch

from gdn_verify.e2e.checkpoint import Checkpoint, Kind
from gdn_verify.e2e.difference import distance
from gdn_verify.e2e.scenario import BRIEF, Round, Scenario, Settings
from gdn_verify.e2e.session import REFERENCE, Model, Session
from gdn_verify.e2e.transcript import Transcript

pytest.importorskip("transformers", reason="pip install 'gdn-verify[transformers]'")


def said(folder: File, kind: Kind, *scenarios: Scenario, forced: Transcript | None = None) -> list[Transcript]:
    """What transformers says, in a process of its own."""
    with Session(Model(str(folder), Checkpoint(kind)), Settings(), target=REFERENCE) as reference:
        assert reference.opened.layers == 3
        return [reference.transcript(scenario, forced=forced) for scenario in scenarios]


@pytest.mark.parametrize("kind", Kind)
def test_a_model_says_something_and_remembers_its_first_token(kind: Kind, tmp_path: File) -> None:
    """Tokens vary, and another first token moves the last step: the state matters."""
    text = tuple(range(40, 80))
    other = (text[1], *text[1:])
    free, pair = said(tmp_path, kind, BRIEF, Scenario("two", (Round((40, 40), 1),), given=((text, other),)))
    tokens = [token for request in free.requests for token in request.tokens]
    assert len(tokens) == 18
    assert len(set(tokens)) > 9
    one, two = (request.steps[0] for request in pair.requests)
    assert distance(one, two) > 0.01


def test_the_same_fields_make_the_same_bytes(tmp_path: File) -> None:
    """A seed is all that weights are drawn from."""
    files = [
        Checkpoint(Kind.QWEN3_5).ensure(tmp_path / name) / "model.safetensors"
        for name in ("a", "b")
    ]  # fmt: skip
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("kind", Kind)
def test_a_layer_that_drafts_lies_beside_the_same_weights(kind: Kind, tmp_path: File) -> None:
    """transformers passes over it, and says the same."""
    from safetensors.torch import load_file

    plain, drafting = (Checkpoint(kind, mtp=mtp).ensure(tmp_path) / "model.safetensors" for mtp in (False, True))
    assert plain != drafting
    own, more = load_file(plain), load_file(drafting)
    assert all(torch.equal(more[name], weight) for name, weight in own.items())
    names = {name for name in more if name not in own}
    assert {"mtp.fc.weight", "mtp.norm.weight", "mtp.layers.0.self_attn.q_proj.weight"} <= names
    assert all(name.startswith("mtp.") for name in names)
    tokens = []
    for mtp in (False, True):
        with Session(Model(str(tmp_path), Checkpoint(kind, mtp=mtp)), Settings(), target=REFERENCE) as reference:
            tokens.append([request.tokens for request in reference.transcript(BRIEF).requests])
    assert tokens[0] == tokens[1]


def test_forced_tokens_are_followed(tmp_path: File) -> None:
    """Led along its own tokens the reference comes to the same log-probabilities."""
    (free,) = said(tmp_path, Kind.QWEN3_5, BRIEF)
    (led,) = said(tmp_path, Kind.QWEN3_5, BRIEF, forced=free)
    assert [r.tokens for r in led.requests] == [r.tokens for r in free.requests]
    assert [r.steps for r in led.requests] == [r.steps for r in free.requests]
