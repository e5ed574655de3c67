"""What a user has set is kept, what this suite must have is put there; and what of a user's model cannot be served."""

from __future__ import annotations

import sys
from pathlib import Path as File
from types import ModuleType, SimpleNamespace

import pytest

from gdn_verify.e2e.engine import gdn_layers, sees
from gdn_verify.e2e.environment import ALLOWED, REQUIRED, USUAL, put
from gdn_verify.e2e.plugin import host_of
from gdn_verify.e2e.scenario import Settings
from gdn_verify.hosts import HOSTS


def test_what_a_user_has_set_is_kept() -> None:
    """But for the model runner that can be counted, in this very process."""
    theirs = {"VLLM_CPU_KVCACHE_SPACE": "40", "TORCHDYNAMO_DISABLE": "0", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    made = dict(theirs)
    put(made, alone=False)
    assert made == {**USUAL, **theirs, **REQUIRED}
    assert made["VLLM_USE_V2_MODEL_RUNNER"] == "0"


def test_a_list_of_plugins_is_kept_with_ours_in_it() -> None:
    """Of none, vLLM loads all; models of this suite's own have no other."""
    for before, alone, after in (
        (None, False, None),
        (None, True, "gdn_verify"),
        ("their_platform", False, "their_platform,gdn_verify"),
        ("their_platform", True, "their_platform,gdn_verify"),
        ("gdn_verify,other", False, "gdn_verify,other"),
        ("", False, "gdn_verify"),
    ):
        made = {} if before is None else {ALLOWED: before}
        put(made, alone)
        assert made.get(ALLOWED) == after


def test_layers_are_counted_by_their_kinds() -> None:
    """A configuration that does not tell, or a model without any, ends with what to do."""
    assert gdn_layers(SimpleNamespace(layer_types=["linear_attention", "full_attention"]), "m") == 1
    with pytest.raises(ValueError, match="no layer_types"):
        gdn_layers(SimpleNamespace(), "m")
    with pytest.raises(ValueError, match="none of its layers"):
        gdn_layers(SimpleNamespace(layer_types=["full_attention"]), "m")


def test_a_model_that_sees_is_known_by_its_configuration(tmp_path: File) -> None:
    """No picture is asked about, so that no memory is kept for one."""
    assert not sees(tmp_path)
    (tmp_path / "config.json").write_text('{"text_config": {}}')
    assert not sees(tmp_path)
    (tmp_path / "config.json").write_text('{"text_config": {}, "vision_config": {}}')
    assert sees(tmp_path)


def test_more_arguments_of_an_engine_are_an_object() -> None:
    """In JSON."""
    assert Settings().given == {}
    assert Settings(options='{"gpu_memory_utilization": 0.5}').given == {"gpu_memory_utilization": 0.5}
    with pytest.raises(ValueError, match="no JSON object"):
        assert Settings(options="[1]").given


@pytest.mark.parametrize(
    ("on_a_cpu", "way", "host"), [(True, "cuda", "cpu"), (False, "cuda", "cuda"), (False, "rocm", "rocm")]
)
def test_cores_run_on_the_card_whose_seam_it_is(
    monkeypatch: pytest.MonkeyPatch, on_a_cpu: bool, way: str, host: str
) -> None:
    """And on a CPU whose layers go a card's way, on the CPU."""
    platforms = ModuleType("vllm.platforms")
    platforms.current_platform = SimpleNamespace(is_cpu=lambda: on_a_cpu)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    assert host_of(way, HOSTS["cpu"]) is HOSTS[host]
