"""vLLM's chunked delta rule: chunks of 64 tokens, dense states in and float32 states out.

q and k are normalised by a kernel of its own where the caller has not done it; g and β are float32, as the layer's are.
β k meets k in float32 (chunk_scaled_dot_kkt.py:97), which CUDA's tensor cores cut to TF32; the triangular inverse is
merged in float32 (`FLA_TRIL_PRECISION`, "ieee" by default). All other operands are of the activations' type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, DType, DTypes, Group, Padding, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import F32, TF32, chunked_tensor_core, overlaid
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import filled
from gdn_verify.paths.installed import function
from gdn_verify.paths.vllm_triton.base import OPS, VK, Vllm

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = f"{OPS}.chunk:chunk_gated_delta_rule"
SIZE = 64
NARROW = frozenset({DType.BF16, DType.F16})
KERNELS = (
    "chunk_local_cumsum_scalar_kernel",
    "chunk_scaled_dot_kkt_fwd_kernel",
    "merge_16x16_to_64x64_inverse_kernel",
    "recompute_w_u_fwd_kernel",
    "chunk_gated_delta_rule_fwd_kernel_h_blockdim64",
    "chunk_fwd_kernel_o",
)


class Chunk(Vllm):
    """`chunk_gated_delta_rule` with q and k as the conv left them, as in the layer's warm-up."""

    name = "vllm-chunk"
    least_reach = 0.002
    kernels = ("l2norm_fwd_kernel2", *KERNELS)
    entries = (CHUNK,)
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        pool=False,
        min_tokens=1,  # `prepare_chunk_indices` numbers rows that have a chunk (index.py), so empty ones shift the rest
        activations=NARROW,
        gates=frozenset({F32}),
        paddings=frozenset[Padding](),
        state_orders=VK,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def run(self, launch: Launch) -> Outputs:
        q, k, v, g, beta = (launch[name] for name in ("q", "k", "v", "g", "beta"))
        if not launch.batch.tokens:  # no engine launches that
            return Outputs(o=launch["out"], final_state=launch["initial_state"].float())
        o, state = chunks(launch, q, k, v, g, beta, launch["initial_state"], normalises=True)
        return Outputs(o=filled(launch, o).o, final_state=state)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return rounding(case.dtypes, host, store=F32)


def chunks(
    launch: Launch, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial: Tensor, *, normalises: bool
) -> tuple[Tensor, Tensor]:
    """o [tokens, HV, V] and the states after the launch; the host tells where chunks begin, as the builder does."""
    import torch

    index = function(f"{OPS}.index:prepare_chunk_indices"), function(f"{OPS}.index:prepare_chunk_offsets")
    starts = torch.tensor(launch.batch.query_start_loc, dtype=torch.int32)
    indices, offsets = (prepare(starts, SIZE).to(q.device) for prepare in index)
    o, state = function(CHUNK)(
        q=q[None], k=k[None], v=v[None], g=g[None], beta=beta[None], scale=launch.options.scale, initial_state=initial,
        output_final_state=True, cu_seqlens=launch["query_start_loc"], chunk_indices=indices, chunk_offsets=offsets,
        use_qk_l2norm_in_kernel=normalises,
    )  # fmt: skip
    return o[0], state


def rounding(dtypes: DTypes, host: str, store: DType | None = None) -> Rounding:
    """As FLA's chunks, but for β k k and the inverse."""
    plain = chunked_tensor_core(dtypes, chunk=SIZE, store=store)
    return overlaid(plain, {Site.KK_DOT: (F32, TF32)}) if host == "cuda" else plain
