"""transformers' functions as paths, also in versions whose model repeated q's and k's heads before it called them."""

from __future__ import annotations

import inspect

import pytest

from gdn_verify.cases.contract import Kind
from gdn_verify.hosts import HOSTS
from gdn_verify.paths import find
from gdn_verify.paths.transformers import MODULE
from gdn_verify.runner import run_case
from gdn_verify.service import Job, draw

NAMES = {
    "transformers-recurrent": "torch_recurrent_gated_delta_rule",
    "transformers-chunk": "torch_chunk_gated_delta_rule",
}


@pytest.mark.parametrize("name", NAMES)
def test_functions_that_take_equal_heads_get_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 5.22; there fewer heads of q than of v are an error of torch's, which would be put down to the kernel."""
    module = pytest.importorskip(MODULE, reason="pip install 'gdn-verify[transformers]'")
    plain, seen = inspect.unwrap(getattr(module, NAMES[name])), set()

    def older(query, key, value, *rest, **named):
        seen.add((query.shape[2] == value.shape[2], key.shape[2] == value.shape[2]))
        return plain(query, key, value, *rest, **named)

    monkeypatch.setattr(module, NAMES[name], older)
    monkeypatch.setattr("transformers.__version__", "5.22.0")
    path = find(name)
    monkeypatch.setattr(path, "_function", None)
    monkeypatch.setattr(path, "_repeats_heads", True)
    assert path.load("cpu") == "5.22.0"
    for (case, presentation), _ in draw(Job(name, "cpu", Kind.PREFILL, count=12, seed=3), path):
        assert not run_case(case, presentation, path, HOSTS["cpu"]).findings
    assert seen == {(True, True)}
