"""vLLM's layer core itself, `QwenGatedDeltaNetAttention._forward_core`, on the metadata that its own builder makes.

Which kernels a batch gets is vLLM's choice then (qwen_gdn_linear_attn.py:1556): the packed decode for decodes alone,
the recurrence with gates for decodes beside prompts and for drafts, chunks for prompts, and for decodes beside drafts,
which the builder makes prompts (gdn_attn.py:422). The builder is told of each row what the engine's runner tells it:
tokens, tokens before, slots, drafts and counts. Rows stand as the runner sorts them, decodes before prompts
(`split_decodes_and_prefills`, v1/attention/backends/utils.py:837), and rows without tokens last.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Activation, Capabilities, Group, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import SEQUENTIAL, overlaid, sequential_float32
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import accepted, engine_order, filled, halved_row
from gdn_verify.paths.vllm_triton import chunk, conv
from gdn_verify.paths.vllm_triton.base import VK, Vllm, skips
from gdn_verify.paths.vllm_triton.layer import Prefill, two_masks

if TYPE_CHECKING:
    from torch import Tensor

LAYER = "vllm.model_executor.layers.mamba.gdn.qwen_gdn_linear_attn"
BUILDER = "vllm.v1.attention.backends.gdn_attn"
PREFIX = "layer"
BEFORE = 1000
"""Tokens of a request before the launch, where it has a state: all that matters is that there were any."""


class Core(Vllm):
    """Any launch, from before the convolution to o, which the norm follows in a launch of its own."""

    name = "vllm-core"
    least_reach = 0.01
    kernels = ("_causal_conv1d_",)
    conventions = skips(Stage.CONV, Stage.DELTA)
    capabilities = Capabilities(
        span=Span(Stage.CONV, Stage.DELTA),
        widths=conv.PREFILL_WIDTHS,
        activations=chunk.NARROW,
        min_tokens=1,
        paddings=frozenset({Padding.TOKENS}),
        state_orders=VK,
        scales=False,
    )

    def load(self, host: str) -> str:
        found = super().load(host)
        assert callable(_layer_class()._forward_core)
        return found

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return halved_row(case) or two_masks(case)

    def run(self, launch: Launch) -> Outputs:
        if not launch.batch.tokens:  # no engine launches that
            return Outputs(o=launch["out"])
        order = engine_order(launch.batch)
        tokens = _positions(launch, order)
        mixed_qkv, b, a = (conv.own_copy(launch[name][tokens], len(tokens)) for name in ("mixed_qkv", "b", "a"))
        core_attn_out = launch["out"].new_zeros(len(tokens), *launch["out"].shape[1:])
        context = import_module("vllm.forward_context")
        metadata = _metadata(launch, order)
        with context.override_forward_context(SimpleNamespace(attn_metadata={PREFIX: metadata})):
            _layer_class()._forward_core(_layer(launch), mixed_qkv=mixed_qkv, b=b, a=a, core_attn_out=core_attn_out)
        o = core_attn_out.new_empty(core_attn_out.shape)
        o[tokens] = core_attn_out
        return filled(launch, o)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        groups = {row.group for batch in case.batches for _, row in batch.live_rows()}
        if len(groups) > 1 or Group.PREFILL in groups:
            # Chunks round more than the recurrence does, but for its states after each token of a draft.
            return overlaid(Prefill().rounding(case, presentation, host), SEQUENTIAL if Group.SPEC in groups else {})
        return overlaid(sequential_float32(case.dtypes), conv.sites(case.dtypes))


def _positions(launch: Launch, order: list[int]) -> Tensor:
    """Where the tokens of the sorted rows stand in the launch."""
    import torch

    starts = launch.batch.query_start_loc
    there = [torch.arange(starts[n], starts[n + 1]) for n in order]
    return torch.cat([torch.zeros(0, dtype=torch.int64), *there]).to(launch["out"].device)


def _layer_class() -> Any:
    return import_module(LAYER).QwenGatedDeltaNetAttention


def _layer(launch: Launch) -> Any:
    """All that `_forward_core` reads of a layer. Its conv cache is [slots, columns, channels] ("SD")."""
    module, cls, g = import_module(LAYER), _layer_class(), launch.geometry
    silu = launch.options.conv_activation is Activation.SILU
    layer = SimpleNamespace(
        prefix=PREFIX, tp_size=1, num_k_heads=g.H, num_v_heads=g.HV, head_k_dim=g.K, head_v_dim=g.V, key_dim=g.H * g.K,
        value_dim=g.HV * g.V, A_log=launch["A_log"], dt_bias=launch["dt_bias"], activation="silu" if silu else None,
        conv1d=SimpleNamespace(weight=launch["conv_weight"][:, None], bias=launch.get("conv_bias")),
        kv_cache=(launch["conv_pool"].transpose(-1, -2), launch["ssm_pool"]), enable_packed_recurrent_decode=True,
        chunk_gated_delta_rule=partial(module.ChunkGatedDeltaRule.forward_native, None),
    )  # fmt: skip
    for name in ("rearrange_mixed_qkv", "_forward_core_decode_non_spec"):
        setattr(layer, name, partial(getattr(cls, name), layer))
    return layer


def _metadata(launch: Launch, order: list[int]) -> Any:
    """What `GDNAttentionMetadataBuilder.build` makes of the launch."""
    import torch

    rows, device = [launch.batch.rows[n] for n in order], launch["out"].device
    lengths = torch.tensor([row.tokens for row in rows], dtype=torch.int32)
    seen = lengths + torch.tensor([0 if row.fresh else BEFORE for row in rows], dtype=torch.int32)
    starts = torch.cat([torch.zeros(1, dtype=torch.int32), lengths.cumsum(0, dtype=torch.int32)])
    table = launch["state_indices"]
    common = import_module("vllm.v1.attention.backend").CommonAttentionMetadata(
        query_start_loc=starts.to(device), query_start_loc_cpu=starts, seq_lens=seen.to(device), num_reqs=len(rows),
        num_actual_tokens=int(starts[-1]), max_query_len=int(lengths.max()), max_seq_len=int(seen.max()),
        block_table_tensor=(table if table.ndim == 2 else table[:, None])[order], slot_mapping=None,
        is_prefilling=torch.tensor([row.group is Group.PREFILL for row in rows]), seq_lens_cpu_upper_bound=seen,
    )  # fmt: skip
    counts = accepted(launch)
    drafts = None if counts is None else torch.tensor([row.tokens - 1 if row.spec else -1 for row in rows])
    return _builder(launch).build(0, common, None if counts is None else counts[order], drafts)


def _builder(launch: Launch) -> Any:
    """A builder as it is without graphs and prefix caching, for as many drafts as the launch's layer has room for."""
    builder = object.__new__(import_module(BUILDER).GDNAttentionMetadataBuilder)
    said = {
        "kv_cache_spec": None,
        "vllm_config": SimpleNamespace(cache_config=SimpleNamespace(mamba_cache_mode="none")),
        "use_spec_decode": launch.geometry.num_spec > 0,
        "num_spec": launch.geometry.num_spec,
        "use_full_cuda_graph": False,
        "gdn_prefill_backend": "triton",
        "plan_flashinfer_checkpoints": False,
        "checkpoint_builder": SimpleNamespace(build=lambda common, rows: None),
    }
    vars(builder).update(said)
    return builder
