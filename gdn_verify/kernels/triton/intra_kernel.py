"""Launch 1 of a chunked prefill: all of a chunk that needs no state, chunks and value heads side by side.

Within a chunk of C tokens let G be the running sum of g from the chunk's first token on, D_ij = e^(G_i - G_j) for
i ≥ j and 0 above, L = tril(diag(β) k̂ k̂ᵀ ∘ D, -1), X = (I + L)⁻¹ diag(β). The delta rule over the chunk is then, with
v' = v - e^G k̂ hᵀ,

    u = X v',   o = e^G q̂ hᵀ + (q̂ k̂ᵀ ∘ D) u,   h ← e^(G_C) h + uᵀ diag(e^(G_C - G)) k̂

(the WY form of the DeltaNet papers, arXiv 2406.06484 and 2412.06464). Handed on are B = (q̂ k̂ᵀ ∘ D) X and
W = Xᵀ diag(e^(G_C - G)) k̂, so that launch 2 multiplies v' alone, and what scales its products: e^G ρ_k, e^G ρ_q, e^G.

Differences of G are formed in float64: of sums that are large they would be all noise in float32. None is positive.
G is in units of log 2 here, for exp2 is one instruction of a GPU where exp is four.

What is cheap decides the shape of this code. Chunks are blocks of 16 tokens: D needs an exponential for each pair of
tokens only in the blocks on the diagonal; in those below it is e^(G_i - G_m) e^(G_m - G_j) with m the last token before
block row. Four warps hold a block row each, so that the blocks on the diagonal are inverted without shared memory.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents

from gdn_verify.kernels.triton.varlen import find_block


@triton.jit
def multiply(a, b, EXACT: tl.constexpr):
    """a · b in float32; of float16 operands, or with EXACT of float32 ones that are not cut to tf32."""
    if EXACT:
        return tl.dot(a, b, input_precision="ieee")
    else:
        return tl.dot(a.to(tl.float16), b.to(tl.float16))


@triton.jit
def scores(a, b, EXACT: tl.constexpr):
    """a · bᵀ in float32 of operands as they were loaded."""
    if EXACT:
        return tl.dot(a.to(tl.float32), tl.trans(b.to(tl.float32)), input_precision="ieee")
    else:
        return tl.dot(a, tl.trans(b))


@triton.jit
def even_columns(M, SIZE: tl.constexpr):
    """(columns of the blocks 0, 2, … of SIZE columns, those of the others)."""
    HALF: tl.constexpr = M.shape[1] // 2
    even, odd = tl.split(M.reshape(M.shape[0], HALF // SIZE, 2, SIZE).permute(0, 1, 3, 2))
    return even.reshape(M.shape[0], HALF), odd.reshape(M.shape[0], HALF)


@triton.jit
def merge_columns(even, odd, SIZE: tl.constexpr):
    """What `even_columns` took apart."""
    R: tl.constexpr = even.shape[0]
    HALF: tl.constexpr = even.shape[1]
    M = tl.join(even.reshape(R, HALF // SIZE, SIZE), odd.reshape(R, HALF // SIZE, SIZE))
    return M.permute(0, 1, 3, 2).reshape(R, 2 * HALF)


@triton.jit
def diagonal_blocks(M, EXACT: tl.constexpr):
    """The blocks [n, 16, 16] on the diagonal of M [16 n, 16 n]."""
    n: tl.constexpr = M.shape[0] // 16
    row = tl.arange(0, n)[:, None, None]
    if n == 1:
        blocks = M.reshape(n, 16, 16)
    elif n == 2:
        a, b = even_columns(M, 16)
        blocks = tl.where(row == 0, a.reshape(n, 16, 16), b.reshape(n, 16, 16))
    else:
        even, odd = even_columns(M, 16)
        a, c = even_columns(even, 16)
        b, d = even_columns(odd, 16)
        upper = tl.where(row == 0, a.reshape(n, 16, 16), b.reshape(n, 16, 16))
        lower = tl.where(row == 2, c.reshape(n, 16, 16), d.reshape(n, 16, 16))
        blocks = tl.where(row < 2, upper, lower)
    # Added to a product, they take the layout of products: here that moves nothing, later it would move every factor.
    nothing = tl.zeros([n, 16, 16], tl.float32)
    return blocks + multiply(nothing, nothing, EXACT)


@triton.jit
def spread(blocks):
    """Blocks [n, 16, 16] on a diagonal of zeros; a product, as a choice by warp costs two instructions."""
    n: tl.constexpr = blocks.shape[0]
    diagonal = tl.arange(0, n)[:, None, None, None] == tl.arange(0, n)[None, None, :, None]
    return (diagonal.to(tl.float32) * blocks.reshape(n, 16, 1, 16)).reshape(16 * n, 16 * n)


@triton.jit
def diagonal(blocks):
    """[n, 16] of [n, 16, 16]."""
    i = tl.arange(0, 16)
    return tl.sum(tl.where(i[None, :, None] == i[None, None, :], blocks, 0.0), 2)


@triton.jit
def invert_blocks(L, LT, EXACT: tl.constexpr):
    """(I - L)⁻¹ of strictly lower L [n, 16, 16]: blocks of 2, 4, 8, 16 by X₂₁ = X₂₂ L₂₁ X₁₁, all of a size at once.

    LT is Lᵀ. A product's result is laid out as the left operand of the next, and its transposed as the right one: with
    Xᵀ beside X nothing moves between threads. What L and LT hold elsewhere does not matter.
    """
    i = tl.arange(0, 16)[None, :, None]
    j = tl.arange(0, 16)[None, None, :]
    X = tl.where(i == j, 1.0, 0.0) + tl.where((i // 2 == j // 2) & (i > j), L, 0.0)
    XT = tl.where(i == j, 1.0, 0.0) + tl.where((i // 2 == j // 2) & (i < j), LT, 0.0)
    for level in tl.static_range(1, 4):
        pair = (i >> (level + 1)) == (j >> (level + 1))
        off = tl.where(pair & ((i >> level) > (j >> level)), L, 0.0)
        offT = tl.where(pair & ((i >> level) < (j >> level)), LT, 0.0)
        left = multiply(X, tl.trans(offT, 0, 2, 1), EXACT)
        leftT = multiply(XT, tl.trans(off, 0, 2, 1), EXACT)
        step = multiply(left, tl.trans(XT, 0, 2, 1), EXACT)
        XT += multiply(leftT, tl.trans(X, 0, 2, 1), EXACT)
        X += step
    return X


@triton.jit
def below(kk, of_rows, of_columns, SIZE: tl.constexpr):
    """L₂₁ [C, C/2] of all pairs of blocks of SIZE: the columns of the first blocks, zeros but in rows of the second."""
    C: tl.constexpr = kk.shape[0]
    n: tl.constexpr = C // 16
    row = tl.arange(0, n)[:, None] * 16 // SIZE
    column = tl.arange(0, C)[None, :] // SIZE
    of_columns, _ = even_columns(tl.where((row == column + 1) & (row % 2 == 1), of_columns, 0.0), SIZE)
    even, _ = even_columns(kk, SIZE)
    return (even.reshape(n, 16, C // 2) * of_rows[:, :, None] * of_columns[:, None, :]).reshape(C, C // 2)


@triton.jit
def join_blocks(X, L, SIZE: tl.constexpr, EXACT: tl.constexpr):
    """The inverse with blocks of 2 SIZE from that with blocks of SIZE; L as from `below`."""
    even, odd = even_columns(X, SIZE)
    left = multiply(X, L, EXACT)
    # Of X only rows of first blocks may be met.
    left = merge_columns(left, tl.zeros_like(left), SIZE)
    return merge_columns(even - multiply(left, even, EXACT), odd, SIZE)


@triton.jit
def fixed(x):
    """x, which is not computed again for each layout that is asked of it: the compiler does not repeat sums."""
    return tl.sum(tl.expand_dims(x, -1), -1)


@triton.jit
def decays(G):
    """D of tokens (i, j) as two factors [n, 16] of i and [n, C] of j where their blocks differ; as [n, 16, 16] within.

    For a block row, tokens j in or after it have 0. Within blocks D is symmetric, not masked yet.
    """
    C: tl.constexpr = G.shape[0]
    n: tl.constexpr = C // 16
    c = tl.arange(0, C)
    row = tl.arange(0, n)
    i = tl.arange(0, 16)[None, :, None]
    j = tl.arange(0, 16)[None, None, :]
    before = tl.where(row > 0, tl.gather(G, tl.maximum(16 * row - 1, 0), 0), 0.0)
    G_rows = G.reshape(n, 16)
    of_rows = tl.exp2((G_rows - before[:, None]).to(tl.float32))
    of_columns = (before[:, None] - G[None, :]).to(tl.float32)
    of_columns = tl.exp2(tl.where(c[None, :] // 16 < row[:, None], of_columns, float("-inf")))
    between = (G_rows[:, :, None] - G_rows[:, None, :]).to(tl.float32)
    return of_rows, of_columns, tl.exp2(tl.where(i >= j, between, -between))


@triton.jit
def normalisers(kk_blocks, queries, eps, QK_NORM: tl.constexpr, EXACT: tl.constexpr):
    """1 / sqrt(‖x‖² + eps) of k and q, or ones: [n, 16] each."""
    if QK_NORM:
        qq_blocks = diagonal_blocks(scores(queries, queries, EXACT), EXACT)
        return tl.rsqrt(diagonal(kk_blocks) + eps), tl.rsqrt(diagonal(qq_blocks) + eps)
    else:
        ones = tl.full([kk_blocks.shape[0], 16], 1.0, tl.float32)
        return ones, ones


@triton.jit
def inverse(kk, kk_blocks, within, rho_k, strength, of_rows, of_columns, EXACT: tl.constexpr):
    """T = (I + L)⁻¹ [C, C], from the diagonal's blocks of 16 up."""
    C: tl.constexpr = kk.shape[0]
    rho_beta = rho_k * strength
    L = -kk_blocks * within * rho_beta[:, :, None] * rho_k[:, None, :]
    LT = -kk_blocks * within * rho_beta[:, None, :] * rho_k[:, :, None]
    if C > 16:
        L_16 = below(kk, rho_beta * of_rows, of_columns, 16)
    if C > 32:
        L_32 = below(kk, rho_beta * of_rows, of_columns, 32)
    X = spread(invert_blocks(L, LT, EXACT))
    if C > 16:
        X = join_blocks(X, L_16, 16, EXACT)
    if C > 32:
        X = join_blocks(X, L_32, 32, EXACT)
    return X


@triton.jit
def store_factors(to, G, norm_k, norm_q):
    """What scales the products of launch 2."""
    C: tl.constexpr = G.shape[0]
    decay = tl.exp2(G.to(tl.float32))
    for n in tl.static_range(3):
        factor = decay
        if n == 0:
            factor = decay * norm_k
        if n == 1:
            factor = decay * norm_q
        tl.store(to + (n * C + tl.arange(0, C)), factor)


@triton.jit(do_not_specialize=["num_rows"])
def gdn_intra_kernel(
    q, k, g, beta, query_start_loc, w_out, b_out, factors,
    num_rows, scale, eps, stride_q, stride_k, stride_g, stride_beta,
    H: tl.constexpr, HV: tl.constexpr, K: tl.constexpr, C: tl.constexpr, KP: tl.constexpr,
    NP: tl.constexpr, QK_NORM: tl.constexpr, EXACT: tl.constexpr, LET_NEXT: tl.constexpr,
):  # fmt: skip
    """See the module; `chunk.chunk_delta` gives shapes and meanings. KP is a power of two that holds K."""
    if LET_NEXT:  # the next launch may begin once the last of these programs has, and waits for their end by itself
        gdc_launch_dependents()
    n: tl.constexpr = C // 16
    block = tl.program_id(0)
    head = tl.program_id(1)
    _, first, length, begin = find_block(query_start_loc, block, num_rows, C, NP)
    if begin >= length:
        return
    first += begin
    remaining = (length - begin).to(tl.int32)
    c = tl.arange(0, C)
    d = tl.arange(0, KP)
    here = c < remaining
    gates = tl.load(g + first * stride_g + head + c * stride_g, mask=here, other=0)
    strength = tl.load(beta + first * stride_beta + head + c * stride_beta, mask=here, other=0)
    # Behind the row's end its last token is read again: with β = 0 it adds nothing.
    token = tl.minimum(c, remaining - 1)[:, None]
    mask = None if K == KP else (d < K)[None, :]
    other = None if K == KP else 0
    key_head = head // (HV // H)
    keys = tl.load(k + first * stride_k + key_head * K + (token * stride_k + d[None, :]), mask=mask, other=other)
    queries = tl.load(q + first * stride_q + key_head * K + (token * stride_q + d[None, :]), mask=mask, other=other)

    kk = scores(keys, keys, EXACT)
    kk_blocks = diagonal_blocks(kk, EXACT)
    rho_k, rho_q = normalisers(kk_blocks, queries, eps, QK_NORM, EXACT)
    norm_k = fixed(rho_k.reshape(C))
    unit_keys = keys.to(tl.float32) * norm_k[:, None]
    if not EXACT:
        unit_keys = unit_keys.to(tl.float16)

    G = tl.cumsum(gates.to(tl.float64) * 1.4426950408889634, 0)
    strength = fixed(strength.to(tl.float32))
    of_rows, of_columns, within = decays(G)
    of_columns = fixed(of_columns * norm_k[None, :])
    at = block.to(tl.int64) * HV + head
    store_factors(factors + at * (3 * C), G, norm_k, rho_q.reshape(C) * scale)

    to_end = tl.exp2((tl.gather(G, tl.full([C], C - 1, tl.int32), 0) - G).to(tl.float32))
    to_end = fixed(to_end)  # or G, in float64, lives on for it
    X = inverse(kk, kk_blocks, within, rho_k, strength.reshape(n, 16), of_rows, of_columns, EXACT)

    # β and the scale have any size: they multiply results, where operands of float16 would overflow or vanish.
    i = tl.arange(0, 16)
    within = tl.where(i[:, None] >= i[None, :], within, 0.0) * rho_k[:, None, :] * rho_q[:, :, None]
    D = ((rho_q * of_rows)[:, :, None] * of_columns[:, None, :]).reshape(C, C) + spread(within)
    B = multiply(scores(queries, keys, EXACT) * D, X, EXACT) * (strength * scale)[None, :]
    tl.store(b_out + at * (C * C) + (c[:, None] * C + c[None, :]), B.to(b_out.dtype.element_ty))

    W = multiply(tl.trans(X * to_end[:, None]), unit_keys, EXACT) * strength[:, None]
    tl.store(w_out + at * (C * KP) + (c[:, None] * KP + d[None, :]), W.to(w_out.dtype.element_ty))
