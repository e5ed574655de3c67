"""One stage alone: this project's conv inside the engine's own core, whose gates and recurrence stay what they are.

vLLM's cores call two functions of their module, for prompts and for steps, by name at each call; while such a core runs
they are exchanged. A draft on a CPU is convolved in line there, and no function is called: such launches are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from gdn_verify.e2e.seam import Call

if TYPE_CHECKING:
    from torch import Tensor

WORD = "conv"
CPU_MODULE = "vllm.model_executor.layers.mamba.ops.cpu.gdn_attention"
GPU_MODULE = "vllm.model_executor.layers.mamba.gdn.qwen_gdn_linear_attn"
PLACES = {
    (CPU_MODULE, "causal_conv1d_torch"): "prompts",
    (CPU_MODULE, "causal_conv1d_update_cpu"): "steps",
    (CPU_MODULE, "_causal_conv1d_fwd_cpu"): "packed_prompts",
    (CPU_MODULE, "_causal_conv1d_update_cpu"): "packed_steps",
    (GPU_MODULE, "causal_conv1d_fn"): "prompts",
    (GPU_MODULE, "causal_conv1d_update"): "steps",
}
"""Functions by module and name, and what takes the place of each. A CPU with bfloat16 products (AVX-512 BF16) goes by
those that begin with an underscore: their weights were packed when they were loaded."""


class ConvSeam:
    """A core: the engine's own, with this project's conv in it. `ran` counts its launches."""

    def __init__(self) -> None:
        self.ran = 0
        self._weight: Tensor | None = None

    def __call__(self, call: Call) -> None:
        before, self._weight = self.ran, call.launch["conv_weight"]
        with self._exchanged():
            call.stock()
        if self.ran == before:
            raise RuntimeError(f"{call.name}: the engine's core convolved without calling {PLACES}")

    @contextmanager
    def _exchanged(self) -> Iterator[None]:
        loaded = {module: import_module(module) for module, _ in PLACES}
        with ExitStack() as exchanged:
            for (module, name), ours in PLACES.items():
                exchanged.enter_context(patch.object(loaded[module], name, getattr(self, ours)))
            yield

    def packed_prompts(self, *, weight: Tensor, silu_activation: bool, is_weight_packed: bool, **given: Any) -> Tensor:
        """In the place of `_causal_conv1d_fwd_cpu`: `prompts` on the weights before they were packed."""
        return self.prompts(weight=self._plain(weight, is_weight_packed), activation=_word(silu_activation), **given)

    def packed_steps(
        self, *, conv_states: Tensor, weight: Tensor, silu_activation: bool, is_weight_packed: bool,
        num_accepted_tokens: Tensor | None = None, **given: Any,
    ) -> Tensor:  # fmt: skip
        """In the place of `_causal_conv1d_update_cpu`: `steps` on the weights before they were packed."""
        if num_accepted_tokens is not None:
            raise RuntimeError("drafts of the engine's packed conv are not exchanged; ask for a whole core")
        plain = self._plain(weight, is_weight_packed)
        return self.steps(conv_state=conv_states, weight=plain, activation=_word(silu_activation), **given)

    def _plain(self, weight: Tensor, packed: bool) -> Tensor:
        if not packed:
            return weight.view(weight.shape[0], weight.shape[-1])
        assert self._weight is not None
        return self._weight

    def prompts(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, *, conv_states: Tensor, query_start_loc: Tensor,
        cache_indices: Tensor, has_initial_state: Tensor, activation: str | None, **unused: Any,
    ) -> Tensor:  # fmt: skip
        """In the place of `causal_conv1d_fn`: x [D, T], weight [D, W], conv_states [P, D, C]; gives [D, T]."""
        from gdn_verify.kernels.conv import causal_conv

        self.ran += 1
        tables = (cache_indices, query_start_loc, has_initial_state)
        return causal_conv(x.transpose(0, 1), weight, bias, conv_states, *tables, activation=activation).transpose(0, 1)

    def steps(
        self, x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None,
        *, conv_state_indices: Tensor, num_accepted_tokens: Tensor | None = None, query_start_loc: Tensor | None = None,
        **unused: Any,
    ) -> Tensor:  # fmt: skip
        """In the place of `causal_conv1d_update`: x [T, D], a token a row, or drafts with counts; gives [T, D]."""
        import torch

        from gdn_verify.kernels.conv import causal_conv

        self.ran += 1
        rows = conv_state_indices.shape[0]
        starts = torch.arange(rows + 1, dtype=torch.int32, device=x.device)
        if num_accepted_tokens is None or query_start_loc is None:
            return causal_conv(x, weight, bias, conv_state, conv_state_indices, starts, activation=activation)
        # A draft's conv state is in its first slot; the others of its row are not looked at here.
        slots = conv_state_indices[:, None].expand(-1, conv_state.shape[2] - weight.shape[1] + 2)
        tables = (slots, query_start_loc[: rows + 1], None, num_accepted_tokens[:rows])
        return causal_conv(x, weight, bias, conv_state, *tables, activation=activation, validate=False)


def _word(silu: bool) -> str | None:
    return "silu" if silu else None
