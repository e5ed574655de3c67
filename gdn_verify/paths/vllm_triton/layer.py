"""What vLLM's layer launches one after the other, from the convolution to the gated norm: decodes, drafts and prompts.

The calls of `QwenGatedDeltaNetAttention._forward_core` (qwen_gdn_linear_attn.py:1556) and of what follows it, each with
the arguments that it gets there; `core` runs that method itself. The convolution of a decode is in place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, Dims, Group, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import CONV, GATES, NORM, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import accepted, filled, halved_row, heads, packed_decode
from gdn_verify.paths.installed import function
from gdn_verify.paths.vllm_triton import chunk, conv
from gdn_verify.paths.vllm_triton.base import OPS, VK, Vllm, skips
from gdn_verify.paths.vllm_triton.norm import RMSNORM, rmsnorm
from gdn_verify.paths.vllm_triton.recurrent import PACKED, SIGMOID, WHOLE_ROWS, update

if TYPE_CHECKING:
    from torch import Tensor

POST_CONV = f"{OPS}.fused_gdn_prefill_post_conv:fused_post_conv_prep"
MTP = f"{OPS}.fused_gdn_decode_post_conv_mtp:fused_gdn_decode_post_conv_mtp_triton"
UPDATES, NORMS = ("_causal_conv1d_update_kernel",), ("layer_norm_fwd_kernel",)


class Layer(Vllm):
    """From the packed q, k and v before the convolution to the output of the norm."""

    least_reach = 0.01
    conventions = skips(Stage.CONV, Stage.DELTA)
    capabilities = Capabilities(
        span=Span(Stage.CONV, Stage.NORM),
        widths=conv.UPDATE_WIDTHS,
        state_orders=VK,
        scales=False,  # the layer has no say in it
        fresh_rows=False,
    )

    def run(self, launch: Launch) -> Outputs:
        mixed_qkv = conv.own_copy(launch["mixed_qkv"], launch.batch.tokens)
        convolved = self.convolve(launch, mixed_qkv)
        o, stages = self.recur(launch, convolved)
        return filled(launch, rmsnorm(launch, o), conv=convolved, o=o, **stages)

    def convolve(self, launch: Launch, mixed_qkv: Tensor) -> Tensor:
        """The convolution, by default of one token a row or of drafts."""
        return conv.update(launch, mixed_qkv)

    def recur(self, launch: Launch, convolved: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """o, and the stages before it."""
        raise NotImplementedError

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return halved_row(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return overlaid(sequential_float32(case.dtypes), conv.sites(case.dtypes))


class Decode(Layer):
    """`causal_conv1d_update`, the packed decode and the norm: a batch of decodes alone."""

    name = "vllm-decode"
    kernels = (*UPDATES, "fused_recurrent_gated_delta_rule_packed_decode_kernel", *NORMS)
    entries = (conv.UPDATE, PACKED, RMSNORM)
    capabilities = replace(
        Layer.capabilities, groups=frozenset({Group.DECODE}), min_tokens=1, max_tokens=1, paddings=WHOLE_ROWS
    )  # fmt: skip

    def recur(self, launch: Launch, convolved: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return packed_decode(launch, PACKED, convolved), {}


class Spec(Layer):
    """`causal_conv1d_update`, the recurrence with gates and the norm: a batch of drafts alone."""

    name = "vllm-spec"
    kernels: tuple[str, ...] = (*UPDATES, "fused_sigmoid_gating_delta_rule_update_kernel", *NORMS)
    entries: tuple[str, ...] = (conv.UPDATE, SIGMOID, RMSNORM)
    capabilities = replace(Layer.capabilities, groups=frozenset({Group.SPEC}))

    def recur(self, launch: Launch, convolved: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        q, k, v = heads(launch, convolved)
        gates = {name: launch[name][: len(convolved)] for name in ("a", "b")}
        return update(launch, SIGMOID, q, k, v, A_log=launch["A_log"], dt_bias=launch["dt_bias"], **gates)[0], {}


class Mtp(Spec):
    """`causal_conv1d_update` and `fused_gdn_decode_post_conv_mtp_triton`: drafts on ROCm, up to the norm."""

    name = "vllm-mtp"
    since = (0, 33)
    least_reach = 0.0  # few of the probes are of powers of two and draft
    kernels = (*UPDATES, "_gdn_mtp_update_kernel", "_gdn_mtp_gated_rmsnorm_kernel")
    entries = (conv.UPDATE, MTP)
    capabilities = replace(
        Spec.capabilities, key_dim=Dims(power_of_two=True), value_dim=Dims(64, power_of_two=True)
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        options, tokens, dtype = launch.options, launch.batch.tokens, launch["out"].dtype
        convolved = conv.update(launch, conv.own_copy(launch["mixed_qkv"], tokens))
        a, b, z = (launch[name][:tokens] for name in ("a", "b", "z"))
        out = convolved.new_empty(z.shape, dtype=dtype)
        function(MTP)(
            mixed_qkv=convolved, a=a, b=b, A_log=launch["A_log"], dt_bias=launch["dt_bias"],
            state_indices=launch["state_indices"], cu_seqlens=launch["query_start_loc"],
            num_accepted_tokens=accepted(launch), state=launch["ssm_pool"], output_gate=z,
            norm_weight=launch["norm_weight"], out=out, scale=options.q_scale(launch.geometry),
            norm_eps=options.norm_eps, output_gate_activation=options.norm_activation.value,
        )  # fmt: skip
        return filled(launch, out, conv=convolved)


def two_masks(case: Case) -> str | None:
    """Why `fused_post_conv_prep` does not compile for a case, or None: heads of q and of v in blocks of two sizes.

    It calls the masks of both by one name (fused_gdn_prefill_post_conv.py:74, :113), which the interpreter takes.
    """
    g = case.geometry
    blocks = {(size - 1).bit_length() for size in (g.K, g.V)}
    return None if len(blocks) == 1 else f"K={g.K}, V={g.V}: masks of two shapes in one variable do not compile"


class Prefill(Layer):
    """`causal_conv1d_fn`, `fused_post_conv_prep`, chunks of gathered states, and the norm: a batch of prompts.

    Rows of one token with a state are taken too, as the builder makes decodes prefills beside drafts
    (gdn_attn.py:422). States are gathered before and scattered after, the fresh ones cleared between.
    """

    name = "vllm-prefill"
    least_reach = 0.005
    kernels = ("_causal_conv1d_fwd_kernel", "_fused_post_conv_kernel", *chunk.KERNELS, *NORMS)
    entries = (conv.PREFILL, POST_CONV, chunk.CHUNK, RMSNORM)
    capabilities = replace(
        Layer.capabilities, groups=frozenset({Group.DECODE, Group.PREFILL}), widths=conv.PREFILL_WIDTHS, min_tokens=1,
        activations=chunk.NARROW, paddings=frozenset({Padding.TOKENS}), fresh_rows=True,
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        return super().run(launch) if launch.batch.tokens else Outputs(o=launch["out"])  # no engine launches that

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return two_masks(case) or super().refuses(case, presentation)

    def convolve(self, launch: Launch, mixed_qkv: Tensor) -> Tensor:
        return conv.prefill(launch, mixed_qkv)

    def recur(self, launch: Launch, convolved: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        g, pool, rows = launch.geometry, launch["ssm_pool"], launch["state_indices"].long()
        a, b = (launch[name][: len(convolved)] for name in ("a", "b"))
        q, k, v, gates, beta = function(POST_CONV)(
            convolved, a, b, launch["A_log"], launch["dt_bias"], g.H, g.K, g.V, apply_l2norm=True, output_g_exp=False
        )
        initial = pool[rows]
        initial[~launch["has_initial_state"]] = 0
        o, state = chunk.chunks(launch, q, k, v, gates, beta, initial, normalises=False)
        pool[rows] = state.to(pool.dtype)
        return o, {"g": gates, "beta": beta}

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        activation = (case.dtypes.activation, 1.0)
        around = {**CONV, **GATES, **NORM, Site.CONV_OUT: activation, Site.NORM_OUT: activation}
        return overlaid(chunk.rounding(case.dtypes, host), {**around, **conv.sites(case.dtypes)})
