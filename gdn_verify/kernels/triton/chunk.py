"""The recurrence over rows of any length, in two launches: `chunk_delta`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from gdn_verify.kernels.delta import check_delta
from gdn_verify.kernels.rows import POOL_DTYPES, Tables, expect_dtype, expect_shape
from gdn_verify.kernels.stages import QK_NORM_EPS
from gdn_verify.kernels.triton.checks import is_laid_out, refuse_gradients
from gdn_verify.kernels.triton.conv_prefill import check_plain
from gdn_verify.kernels.triton.intra_kernel import gdn_intra_kernel
from gdn_verify.kernels.triton.scan_kernel import gdn_scan_kernel
from gdn_verify.kernels.triton.target import Target, current_target, on_device_of


@dataclass(frozen=True)
class Shape:
    """Tokens of a chunk, warps of either launch, chunks that the second one loads ahead.

    `intra_registers` bounds the registers of a thread of the first launch on Nvidia; 0 leaves them to the compiler.
    """

    chunk: int
    intra_warps: int
    scan_warps: int
    ahead: int
    intra_registers: int = 0


def chunk_delta(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, tables: Tables, *,
    scale: float | None = None, qk_norm: bool = True, eps: float = QK_NORM_EPS, state_order: str = "VK",
    pad_slot_id: int | None = None, output: Tensor | None = None, zero_pads: bool = True, exact: bool = False,
    shape: Shape | None = None,
) -> Tensor:  # fmt: skip
    """q/k norm → delta over plain rows; `pool` is updated in place.

    `q`, `k` [T, H, K] and `v` [T, HV, V] of one dtype, heads of a token contiguous, tokens of any stride; normalised
    here unless `qk_norm` is false, q scaled by `scale` (K^-½). `g` (log decay) and `beta` [T, HV] of any dtype and
    token stride. `pool` [P, HV, V, K] ("VK") or [P, HV, K, V] ("KV"), a slot contiguous. `tables` are those of plain
    rows; a row without tokens leaves its slot alone. Returns `output` [T, HV, V] in v's dtype, filled; with
    `zero_pads` zeros for tokens of padded rows and of none, which keep their bytes otherwise.

    `exact` multiplies in float32 throughout; float32 operands are never multiplied otherwise. `shape` cuts the launch
    other than `choose_shape` does. Raises ValueError for what does not fit, and RuntimeError where a gradient is asked.
    """
    check_delta(q, k, v, g, beta, pool, state_order)
    check_plain(tables)
    output = torch.empty_like(v, memory_format=torch.contiguous_format) if output is None else output
    _check_heads(q, k, v, output, pool)
    refuse_gradients(q, k, v, g, beta)
    (T, H, K), (HV, V), N = q.shape, v.shape[1:], tables.rows
    if T == 0 or N == 0:
        return output.zero_() if zero_pads else output
    exact = exact or q.dtype == torch.float32
    KP, reads = max(16, triton.next_power_of_2(K)), tables.read_indices
    block_v = min(16 if exact else 32, max(16, triton.next_power_of_2(V)))
    work = torch.float32 if exact else q.dtype
    with on_device_of(q):
        shape = shape or choose_shape(current_target(), KP, exact, _moves_in_words(q, k))
        C, blocks = shape.chunk, T // shape.chunk + N
        w, b = (q.new_empty(blocks, HV, C, columns, dtype=work) for columns in (KP, C))
        factors = q.new_empty(blocks, HV, 3, C, dtype=torch.float32)
        limits = {"maxnreg": shape.intra_registers} if shape.intra_registers else {}
        gdn_intra_kernel[(blocks, HV)](
            q, k, g, beta, tables.query_start_loc, w, b, factors,
            N, K**-0.5 if scale is None else scale, eps, q.stride(0), k.stride(0), g.stride(0), beta.stride(0),
            H=H, HV=HV, K=K, C=C, KP=KP, NP=triton.next_power_of_2(N), QK_NORM=qk_norm,
            EXACT=exact, num_warps=shape.intra_warps, **limits,
        )  # fmt: skip
        gdn_scan_kernel[(N * HV * triton.cdiv(V, block_v),)](
            q, k, v, w, b, factors, pool, tables.state_indices, reads, tables.query_start_loc,
            tables.has_initial_state, output,
            N, T, pool.shape[0],
            q.stride(0), k.stride(0), v.stride(0), pool.stride(0), tables.state_indices.stride(0),
            0 if reads is None else reads.stride(0), output.stride(0),
            H=H, HV=HV, K=K, V=V, C=C, KP=KP, BV=block_v, STATE_KV=state_order == "KV", PAD=pad_slot_id,
            ZERO_PADS=zero_pads, EXACT=exact, num_warps=shape.scan_warps, num_stages=shape.ahead,
        )  # fmt: skip
    return output


def choose_shape(target: Target, KP: int, exact: bool, in_words: bool = True) -> Shape:
    """What fits registers and shared memory; not tuned yet.

    Products of float32 operands run on no tensor cores and take short chunks; so do chips whose tensor cores are fed
    from registers alone. Three chunks ahead take 185 KiB of shared memory.

    `in_words`: whether q and k are copied to shared memory by 4 bytes or more. Where they are not, they pass through
    registers, and Triton 3.6 makes of 64 tokens in four warps a launch 2 that is wrong on an H200 (o off by its own
    size) and right in the interpreter; 32 tokens are right on both.
    """
    wide = 2 if target.amd and target.wavefront == 32 else 1
    if exact:
        return Shape(16, 8 * wide, 8 * wide, 1)
    if target.arch in ("90", "100") and KP <= 128 and in_words:
        # 128 registers: launch 1 waits much, and four programs share a multiprocessor.
        return Shape(64, 4, 4, 3, 128) if target.arch == "90" else Shape(64, 8, 4, 3)
    if target.wavefront == 64 and KP <= 128:
        return Shape(64, 4, 4, 1)
    return Shape(32, 8 * wide, (8 if KP > 128 else 4) * wide, 1)


def _moves_in_words(*operands: Tensor) -> bool:
    """Whether Triton knows that tokens and heads begin at multiples of 16 bytes: it asks for strides of 16 elements."""
    return all(x.stride(0) % 16 == 0 and x.shape[2] % 8 == 0 and x.data_ptr() % 16 == 0 for x in operands)


def _check_heads(q: Tensor, k: Tensor, v: Tensor, output: Tensor, pool: Tensor) -> None:
    K, V = q.shape[2], v.shape[2]
    if max(K, V) > 256:
        raise ValueError(f"q has K={K}, v has V={V}: at most 256 are taken")
    expect_shape("output", output, tuple(v.shape))
    expect_dtype("output", output, POOL_DTYPES)
    for name, tensor, width in (("q", q, K), ("k", k, K), ("v", v, V), ("output", output, V)):
        if name != "output":
            expect_dtype(name, tensor, (q.dtype,))
        if not is_laid_out(tensor, (width, 1)):
            raise ValueError(f"{name} has strides {tensor.stride()}; the heads of a token must be contiguous")
    inner = pool.shape[3]
    if not is_laid_out(pool, (K * V, inner, 1)):
        raise ValueError(f"pool has strides {pool.stride()}; each slot must be contiguous, whatever the slot's stride")
