"""The seam of CUDA and ROCm on stand-ins for vLLM's modules: methods are replaced, given z passed on, calls counted.

In vLLM itself it runs on a CPU, whose layers are told to go a GPU's way (`gdn-verify e2e`, parts "cuda" and "rocm").
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from gdn_verify.cases.contract import Kind
from gdn_verify.e2e import gpu_seam, seam
from gdn_verify.e2e.account import Seat, Turn
from gdn_verify.e2e.conv_seam import CPU_MODULE, GPU_MODULE, PLACES, ConvSeam
from gdn_verify.e2e.cores import core_of
from gdn_verify.e2e.seam import SEAM, Call
from gdn_verify.e2e.variant import Variant
from gdn_verify.hosts import HOSTS
from gdn_verify.kernels.conv import causal_conv

H, HV, K, V, W, SLOTS = 2, 4, 16, 16, 4, 5
D = 2 * H * K + HV * V


class Layer:
    """What the seam reads of vLLM's layer, with cores of its own that only leave a mark."""

    prefix, tp_size, num_k_heads, num_v_heads, head_k_dim, head_v_dim = "layers.0", 1, H, HV, K, V

    def __init__(self) -> None:
        source = torch.Generator().manual_seed(1)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=source)

        self.conv1d = SimpleNamespace(weight=normal(D, 1, W), bias=None)
        self.A_log, self.dt_bias = normal(HV), normal(HV)
        self.kv_cache = (normal(SLOTS, W - 1, D), normal(SLOTS, HV, V, K))

    def _forward_core(self, mixed_qkv: torch.Tensor, b: Any, a: Any, core_attn_out: torch.Tensor) -> None:
        core_attn_out.fill_(7.0)

    def _forward_core_rocm(self, qkvz: torch.Tensor, ba: Any, z_out: Any, core_attn_out: torch.Tensor) -> None:
        # As vLLM's: only decode steps are served here, and prompts by the core that is given projections apart.
        made = gpu_seam._made(self)
        if made.num_prefills == 0:
            core_attn_out.fill_(8.0)
            return
        x, z, b, a = self.prepare_gdn_attention_core_inputs(qkvz, ba, qkvz.shape[0])
        z_out[:] = z
        self._forward_core(mixed_qkv=x, b=b, a=a, core_attn_out=core_attn_out)

    def _can_use_fused_gdn_mtp_decode(self, made: Any) -> bool:
        return True

    def prepare_gdn_attention_core_inputs(self, qkvz: torch.Tensor, ba: torch.Tensor, tokens: int) -> Any:
        b, a = ba.split([HV, HV], dim=1)
        return qkvz[:, :D], qkvz[:, D:].reshape(tokens, HV, V), b, a


METADATA = SimpleNamespace(
    spec_sequence_masks_cpu=None, num_decodes=1, num_prefills=1, num_actual_tokens=4,
    non_spec_query_start_loc=torch.tensor([0, 1, 4]), non_spec_state_indices_tensor=torch.tensor([3, 1]),
    has_initial_state=torch.tensor([True, False]), spec_token_indx=None,
)  # fmt: skip
TURN = Turn((Seat("a", 6, 1, tuple(range(7)), 5), Seat("b", 0, 3, (1, 2, 3), 3)))


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Layer]:
    """A layer of a class whose cores have been replaced."""
    made = type("Layer", (Layer,), {})
    context = SimpleNamespace(attn_metadata={Layer.prefix: METADATA})
    names = {
        gpu_seam.MODULE: {gpu_seam.LAYER: made},
        "vllm.forward_context": {"get_forward_context": lambda: context},
        "vllm.model_executor.layers.mamba.mamba_utils": {"is_conv_state_dim_first": lambda: False},
    }
    for name, things in names.items():
        module = ModuleType(name)
        for thing, value in things.items():
            setattr(module, thing, value)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(seam, "_KEPT", [])
    gpu_seam.install()
    assert seam.installed()
    yield made()
    SEAM.end()


def launched(layer: Layer) -> torch.Tensor:
    """The output of one launch of the layer, as CUDA's operator makes it."""
    source = torch.Generator().manual_seed(2)
    out = torch.zeros(4, HV, V)
    x, b, a = (torch.randn(4, n, generator=source) for n in (D, HV, HV))
    layer._forward_core(mixed_qkv=x, b=b, a=a, core_attn_out=out)
    return out


def test_without_a_core_in_place_the_engine_s_own_runs(layer: Layer) -> None:
    """And drafts do not take the fused way, which has no seam."""
    SEAM.end()
    assert (launched(layer) == 7.0).all()
    assert not layer._can_use_fused_gdn_mtp_decode(None)


def test_a_core_in_place_runs_instead_and_is_counted(layer: Layer) -> None:
    """Two cores agree, live slots are written, others are not."""
    outs = []
    for core in ("oracle", "dispatch-o"):
        fresh = type(layer)()
        SEAM.begin(core_of(Variant(core), HOSTS["cpu"]), None, 1)
        SEAM.turned(TURN)
        outs.append(launched(fresh))
        assert SEAM.ran[Layer.prefix] == {Kind.MIXED: 1}
        assert not list(SEAM.shortcomings(1))
        assert not torch.equal(fresh.kv_cache[1][3], type(layer)().kv_cache[1][3])
        assert torch.equal(fresh.kv_cache[1][4], type(layer)().kv_cache[1][4])
    assert torch.allclose(*outs, atol=1e-5)
    assert outs[0].abs().max() < 7.0


def test_the_engine_s_own_core_is_counted_too(layer: Layer) -> None:
    """Where it is what was asked for, and then it is no shortcoming."""
    SEAM.begin(core_of(Variant("stock"), HOSTS["cpu"]), None, 1)
    SEAM.turned(TURN)
    assert (launched(layer) == 7.0).all()
    assert SEAM.stock == 1
    assert not list(SEAM.shortcomings(1, Variant("stock").leaves))


def test_rocm_s_packed_way_passes_z_on_and_comes_to_the_same(layer: Layer) -> None:
    """As what CUDA's way is given apart."""
    SEAM.begin(core_of(Variant("oracle"), HOSTS["cpu"]), None, 1)
    SEAM.turned(TURN)
    wanted = launched(type(layer)())
    source = torch.Generator().manual_seed(2)
    x, b, a = (torch.randn(4, n, generator=source) for n in (D, HV, HV))
    z, z_out, out = torch.randn(4, HV * V), torch.zeros(4, HV, V), torch.ones(4, HV, V)
    SEAM.turned(TURN)
    layer._forward_core_rocm(torch.cat([x, z], 1), torch.cat([b, a], 1), z_out, out)
    assert torch.equal(out, wanted)
    assert torch.equal(z_out, z.reshape(4, HV, V))


@pytest.fixture
def convs(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """vLLM's modules with places for convs, None in each."""
    for module, name in PLACES:
        made = sys.modules.get(module) or ModuleType(module)
        monkeypatch.setattr(made, name, None, raising=False)
        monkeypatch.setitem(sys.modules, module, made)
    return {module: sys.modules[module] for module, _ in PLACES}


def prompts_then_steps(
    layer: Layer, prompts: Callable[..., torch.Tensor], steps: Callable[..., torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A conv of a prompt and of three steps by these, and what both are due; pools are compared."""
    core, (prompt_x, step_x) = ConvSeam(), torch.randn(2, 3, D)
    pools = [layer.kv_cache[0].clone().transpose(1, 2) for _ in range(2)]
    weight = layer.conv1d.weight.view(D, W)
    launch: Any = {"conv_weight": weight}
    found: list[torch.Tensor] = []

    def own() -> None:
        tables = {
            "cache_indices": torch.tensor([2]), "query_start_loc": torch.tensor([0, 3]),
            "has_initial_state": torch.tensor([True]),
        }  # fmt: skip
        prompt = prompts(x=prompt_x.T, bias=None, conv_states=pools[0], **tables)
        step = steps(step_x, pools[0], conv_state_indices=torch.tensor([1, 3, 4]))
        found.append(torch.cat([prompt.T, step]))

    core(Call(Layer.prefix, launch, own))
    rows = torch.tensor([2, 1, 3, 4]), torch.tensor([0, 3, 4, 5, 6])
    wanted = causal_conv(torch.cat([prompt_x, step_x]), weight, None, pools[1], *rows)
    assert torch.equal(*pools)
    assert core.ran == 2
    return found[0], wanted


def test_rocm_s_own_core_is_counted_once_where_it_calls_cuda_s(layer: Layer) -> None:
    """A healthy engine would be accused of running its core twice; and it is not given to another core inside."""
    SEAM.begin(core_of(Variant("stock"), HOSTS["cpu"]), None, 1)
    SEAM.turned(TURN)
    out, z_out = torch.ones(4, HV, V), torch.zeros(4, HV, V)
    layer._forward_core_rocm(torch.ones(4, D + HV * V), torch.ones(4, 2 * HV), z_out, out)
    assert (out == 7.0).all()
    assert (z_out == 1.0).all()
    assert SEAM.ran[Layer.prefix] == {Kind.MIXED: 1}
    assert SEAM.stock == 1
    assert not list(SEAM.shortcomings(1, Variant("stock").leaves))


def test_a_model_runner_that_announces_no_turn_is_told(layer: Layer) -> None:
    """As vLLM's V2 is not asked for: by what the run says, and not by an engine that dies."""
    SEAM.begin(core_of(Variant("oracle"), HOSTS["cpu"]), None, 1)
    SEAM.turn = None
    assert (launched(layer) == 0.0).all()
    assert "VLLM_USE_V2_MODEL_RUNNER=0" in SEAM.raised


def test_one_stage_alone_is_exchanged_inside_the_engine_s_core(layer: Layer, convs: dict[str, ModuleType]) -> None:
    """Both of its calls are this project's conv, and afterwards its own again; one that calls neither is told."""
    module, weight = convs[GPU_MODULE], layer.conv1d.weight.view(D, W)
    found, wanted = prompts_then_steps(
        layer,
        lambda **given: module.causal_conv1d_fn(weight=weight, activation="silu", metadata=None, **given),
        lambda x, pool, **given: module.causal_conv1d_update(x, pool, weight, None, "silu", metadata=None, **given),
    )
    assert torch.equal(found, wanted)
    assert module.causal_conv1d_fn is None
    with pytest.raises(RuntimeError, match="without calling"):
        ConvSeam()(Call(Layer.prefix, {"conv_weight": weight}, lambda: None))  # type: ignore[arg-type]


def test_packed_weights_are_those_before_they_were_packed(layer: Layer, convs: dict[str, ModuleType]) -> None:
    """As on a CPU with bfloat16 products, whose functions are others."""
    module = convs[CPU_MODULE]
    more = {"weight": torch.zeros(3, 5), "silu_activation": True, "is_weight_packed": True}
    found, wanted = prompts_then_steps(
        layer,
        lambda **given: module._causal_conv1d_fwd_cpu(**given, **more),
        lambda x, pool, **given: module._causal_conv1d_update_cpu(x=x, conv_states=pool, bias=None, **given, **more),
    )
    assert torch.equal(found, wanted)
