"""Launch 1 of a chunked prefill: all of a chunk that needs no state, chunks and value heads side by side.

Within a chunk of C tokens let G be the running sum of g from the chunk's first token on, D_ij = e^(G_i - G_j) for
i ≥ j and 0 above, L = tril(diag(β) k̂ k̂ᵀ ∘ D, -1), X = (I + L)⁻¹ diag(β). The delta rule over the chunk is then, with
v' = v - e^G k̂ hᵀ,

    u = X v',   o = e^G q̂ hᵀ + (q̂ k̂ᵀ ∘ D) u,   h ← e^(G_C) h + uᵀ diag(e^(G_C - G)) k̂

(the WY form of the DeltaNet papers, arXiv 2406.06484 and 2412.06464). Handed on are B = (q̂ k̂ᵀ ∘ D) X and
W = Xᵀ diag(e^(G_C - G)) k̂, so that launch 2 multiplies v' alone, and what scales its products: e^G ρ_k, e^G ρ_q, e^G.

Differences of G are formed in float64: of sums that are large they would be all noise in float32. None is positive.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gdn_verify.kernels.triton.varlen import find_block


@triton.jit
def multiply(a, b, EXACT: tl.constexpr):
    """a · b in float32; of float16 operands, or with EXACT of float32 ones that are not cut to tf32."""
    if EXACT:
        return tl.dot(a, b, input_precision="ieee")
    else:
        return tl.dot(a.to(tl.float16), b.to(tl.float16))


@triton.jit
def inverse(L, C: tl.constexpr, LEVELS: tl.constexpr, EXACT: tl.constexpr):
    """(I + L)⁻¹ of a strictly lower L: blocks of 2, 4, … C by X₂₁ = -X₂₂ L₂₁ X₁₁, all of a size at once."""
    i = tl.arange(0, C)[:, None]
    j = tl.arange(0, C)[None, :]
    X = tl.where(i == j, 1.0, 0.0) - tl.where((i // 2 == j // 2) & (i > j), L, 0.0)
    for level in tl.static_range(1, LEVELS):
        off = tl.where(((i >> (level + 1)) == (j >> (level + 1))) & ((i >> level) != (j >> level)), L, 0.0)
        X -= multiply(multiply(X, off, EXACT), X, EXACT)
    return X


@triton.jit
def decay_within(G, C: tl.constexpr):
    """D [C, C]; masked before exp, so that no difference is positive."""
    i = tl.arange(0, C)[:, None]
    j = tl.arange(0, C)[None, :]
    return tl.exp(tl.where(i >= j, (G[:, None] - G[None, :]).to(tl.float32), float("-inf")))


@triton.jit
def normaliser(x, eps, QK_NORM: tl.constexpr, C: tl.constexpr):
    """ρ [C] of x [C, K]: 1 / sqrt(Σx² + eps), or ones."""
    if QK_NORM:
        return tl.rsqrt(tl.sum(x * x, 1) + eps)
    else:
        return tl.full([C], 1.0, tl.float32)


@triton.jit(do_not_specialize=["num_rows"])
def gdn_intra_kernel(
    q, k, g, beta, query_start_loc, w_out, b_out, factors,
    num_rows, scale, eps, stride_q, stride_k, stride_g, stride_beta,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr, KP: tl.constexpr,
    NP: tl.constexpr, QK_NORM: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """See the module; `chunk.chunk_delta` gives shapes and meanings. KP is a power of two that holds K."""
    block = tl.program_id(0)
    head = tl.program_id(1)
    _, first, length, begin = find_block(query_start_loc, block, num_rows, C, NP)
    if begin >= length:
        return
    c = tl.arange(0, C)
    d = tl.arange(0, KP)
    token = first + begin + c
    here = begin + c < length
    mask = here[:, None] & (d < K)[None, :]
    key_column = head // (HV // H) * K + d[None, :]
    keys = tl.load(k + token[:, None] * stride_k + key_column, mask=mask, other=0).to(tl.float32)
    queries = tl.load(q + token[:, None] * stride_q + key_column, mask=mask, other=0).to(tl.float32)
    G = tl.cumsum(tl.load(g + token * stride_g + head, mask=here, other=0).to(tl.float64), 0)
    strength = tl.load(beta + token * stride_beta + head, mask=here, other=0).to(tl.float32)

    rho_k = normaliser(keys, eps, QK_NORM, C)
    rho_q = normaliser(queries, eps, QK_NORM, C)
    keys *= rho_k[:, None]
    queries *= rho_q[:, None]
    D = decay_within(G, C)
    lower = c[:, None] > c[None, :]
    L = tl.where(lower, multiply(keys, tl.trans(keys), EXACT) * D * strength[:, None], 0.0)
    X = inverse(L, C, LEVELS, EXACT)
    G_end = tl.sum(tl.where(c == C - 1, G, 0.0), 0)
    # β and the scale have any size: they multiply results, where operands of float16 would overflow or vanish.
    W = multiply(tl.trans(X * tl.exp((G_end - G).to(tl.float32))[:, None]), keys, EXACT) * strength[:, None]
    at = block.to(tl.int64) * HV + head
    w_at = w_out + at * (C * KP) + c[:, None] * KP + d[None, :]
    tl.store(w_at, W.to(w_out.dtype.element_ty))

    B = multiply(multiply(queries, tl.trans(keys), EXACT) * D, X, EXACT) * (strength * scale)[None, :]
    tl.store(b_out + at * (C * C) + c[:, None] * C + c[None, :], B.to(b_out.dtype.element_ty))
    decay = tl.exp(G.to(tl.float32))
    for n in tl.static_range(3):
        factor = decay
        if n == 0:
            factor = decay * rho_k
        if n == 1:
            factor = decay * (rho_q * scale)
        tl.store(factors + (at * 3 + n) * C + c, factor)
