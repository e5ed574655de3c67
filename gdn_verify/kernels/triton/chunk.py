"""The recurrence over rows of any length, in two launches, or four where rows are cut into segments: `chunk_delta`."""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
from torch import Tensor

from gdn_verify.kernels.delta import check_delta
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import QK_NORM_EPS
from gdn_verify.kernels.triton.checks import check_checkpoints, check_chunked, check_plain, refuse_gradients
from gdn_verify.kernels.triton.intra_kernel import gdn_intra_kernel
from gdn_verify.kernels.triton.scan_kernel import gdn_scan_kernel
from gdn_verify.kernels.triton.segment_choice import choose_segments
from gdn_verify.kernels.triton.segments import SPAN_COLUMNS, Cut, join_segments
from gdn_verify.kernels.triton.shape import (
    HOPPER_AHEAD,
    HOPPER_PROCESSORS,
    Shape,
    choose_groups,
    choose_shape,
    moves_in_words,
    padded,
    processors_of,
    refuse_wrong,
)
from gdn_verify.kernels.triton.strides import stride_of
from gdn_verify.kernels.triton.target import Target, current_target, on_device_of


def chunk_delta(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, pool: Tensor, tables: Tables, *,
    scale: float | None = None, qk_norm: bool = True, eps: float = QK_NORM_EPS, state_order: str = "VK",
    pad_slot_id: int | None = None, output: Tensor | None = None, zero_pads: bool = True, exact: bool = False,
    checkpoints: Tensor | None = None, checkpoint_every: int = 0, shape: Shape | None = None,
) -> Tensor:  # fmt: skip
    """q/k norm → delta over plain rows; `pool` is updated in place.

    `q`, `k` [T, H, K] and `v` [T, HV, V] of one dtype, heads of a token contiguous, tokens of any stride up to
    MOST_STRIDE; normalised here unless `qk_norm` is false, q scaled by `scale` (K^-½). `g` (log decay) and `beta`
    [T, HV] of any dtype and such a stride. `pool` [P, HV, V, K] ("VK") or [P, HV, K, V] ("KV"), a slot contiguous.
    `tables` are those of plain rows; a row without tokens leaves its slot alone. Returns `output` [T, HV, V] in v's
    dtype, filled; with `zero_pads` zeros for tokens of padded rows and of none, which keep their bytes otherwise.

    `checkpoints` [M, HV, V, K] or [M, HV, K, V] as the pool is, of any type that a pool may have, an entry contiguous,
    M ≥ T // E for E = `checkpoint_every`, a multiple of 64: entry query_start_loc[n] // E + j receives the state of row
    n after its first (j + 1) E tokens, for all j < L_n // E. No entry is met twice: ⌊a/E⌋ + ⌊L/E⌋ ≤ ⌊(a+L)/E⌋, so a
    row's entries end before the next row's begin. All others, and those of padded rows, keep their bytes. A state is
    rounded once, to the type of `checkpoints`; the launch goes on from the unrounded one.

    `exact` multiplies in float32 throughout; float32 operands are never multiplied otherwise. `shape` cuts the launch
    other than `choose_shape` does. Raises ValueError for what does not fit, and RuntimeError where a gradient is asked.
    """
    check_delta(q, k, v, g, beta, pool, state_order)
    check_plain(tables)
    output = torch.empty_like(v, memory_format=torch.contiguous_format) if output is None else output
    check_chunked(q, k, v, g, beta, output, pool)
    check_checkpoints(checkpoints, checkpoint_every, pool, q.shape[0])
    refuse_gradients(q, k, v, g, beta)
    T, _, K = q.shape
    if T == 0 or tables.rows == 0:
        return output.zero_() if zero_pads else output
    exact = exact or q.dtype == torch.float32
    with on_device_of(q):
        if shape is None:
            shape = _default_shape(q, k, v, tables.rows, exact)
        else:
            _check_shape(shape, q, k, v, tables.rows, exact)
        folded = _fold(q, k, g, beta, tables, shape, K**-0.5 if scale is None else scale, eps, qk_norm, exact)
        _scan(
            q, k, v, folded, pool, tables, output, checkpoints, checkpoint_every, shape, state_kv=state_order == "KV",
            pad_slot_id=pad_slot_id, zero_pads=zero_pads, exact=exact,
        )  # fmt: skip
    return output


def _fold(
    q: Tensor, k: Tensor, g: Tensor, beta: Tensor, tables: Tables, shape: Shape, scale: float, eps: float,
    qk_norm: bool, exact: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Launch 1: W [blocks, HV, C, KP] and B [blocks, HV, C, C] in the operands' type, float32 factors [_, HV, 3, C]."""
    (T, H, K), HV, N, C = q.shape, g.shape[1], tables.rows, shape.chunk
    KP, blocks = padded(K), T // C + N
    w, b = (q.new_empty(blocks, HV, C, n, dtype=torch.float32 if exact else q.dtype) for n in (KP, C))
    factors = q.new_empty(blocks, HV, 3, C, dtype=torch.float32)
    gdn_intra_kernel[(blocks, HV)](
        q, k, g, beta, tables.query_start_loc, w, b, factors,
        N, scale, eps, q.stride(0), k.stride(0), g.stride(0), beta.stride(0),
        H=H, HV=HV, K=K, C=C, KP=KP, NP=triton.next_power_of_2(N), QK_NORM=qk_norm, EXACT=exact,
        LET_NEXT=shape.groups > 0,
        num_warps=shape.intra_warps, **({"maxnreg": shape.intra_registers} if shape.intra_registers else {}),
    )  # fmt: skip
    return w, b, factors


def _scan(
    q: Tensor, k: Tensor, v: Tensor, folded: tuple[Tensor, Tensor, Tensor], pool: Tensor, tables: Tables,
    output: Tensor, checkpoints: Tensor | None, checkpoint_every: int, shape: Shape, *, state_kv: bool,
    pad_slot_id: int | None, zero_pads: bool, exact: bool,
) -> None:  # fmt: skip
    """The last launch, and before it those that find where segments start, if there are segments."""
    (T, H, K), (HV, V), N, reads = q.shape, v.shape[1:], tables.rows, tables.read_indices
    block_v = shape.rows_of_v(V, exact)
    tiles, starts, cut = triton.cdiv(V, 64 * shape.groups or block_v), None, Cut(0, N)
    if (segments := shape.segments or _default_segments(q, v, N, tiles, shape)) > 1:
        cut = Cut.of(N, T, shape.chunk, segments)
        starts = join_segments(
            k, v, folded[0], folded[2], pool, tables, cut, block_v=block_v, pad_slot_id=pad_slot_id,
            state_kv=state_kv, exact=exact, warps=shape.scan_warps, ahead=shape.ahead,
        )  # fmt: skip
    if shape.groups:
        from gdn_verify.kernels.triton.hopper_scan import hopper_scan

        hopper_scan(
            q, k, v, folded, pool, tables, output, starts, checkpoints, programs=cut.count, segment_tokens=cut.tokens,
            checkpoint_every=checkpoint_every, groups=shape.groups, stages=shape.ahead, state_kv=state_kv,
            pad_slot_id=pad_slot_id, zero_pads=zero_pads,
        )  # fmt: skip
        return
    gdn_scan_kernel[(cut.count * HV * tiles,)](
        q, k, v, *folded, pool, tables.state_indices, reads, tables.query_start_loc, tables.has_initial_state, output,
        starts, checkpoints,
        N, T, pool.shape[0], cut.tokens,
        q.stride(0), k.stride(0), v.stride(0), pool.stride(0), tables.state_indices.stride(0),
        stride_of(reads), output.stride(0), stride_of(checkpoints),
        H=H, HV=HV, K=K, V=V, C=shape.chunk, KP=padded(K), BV=block_v, STATE_KV=state_kv, PAD=pad_slot_id,
        ZERO_PADS=zero_pads, EXACT=exact, EVERY=checkpoint_every,
        NP=1 if starts is None else triton.next_power_of_2(N), num_warps=shape.scan_warps, num_stages=shape.ahead,
    )  # fmt: skip


def _default_shape(q: Tensor, k: Tensor, v: Tensor, N: int, exact: bool) -> Shape:
    """`choose_shape`'s, and on Hopper its own scan where that takes the operands."""
    target, processors = current_target(), processors_of(q) or HOPPER_PROCESSORS
    shape = choose_shape(target, padded(q.shape[2]), exact, moves_in_words(q, k), v.shape[2])
    if target.arch == "90" and shape.chunk == 64 and _hopper_takes(q, k, v, N):
        groups = choose_groups(N * v.shape[1], v.shape[2], processors)
        return replace(shape, groups=groups, ahead=HOPPER_AHEAD[groups])
    return shape


def _hopper_takes(q: Tensor, k: Tensor, v: Tensor, N: int) -> bool:
    """Whether Hopper's scan serves these operands; never with a Triton that lacks the Gluon it is written in."""
    try:
        from gdn_verify.kernels.triton.hopper_scan import CHUNK, takes
    except ImportError:
        return False
    return takes(q, k, v, q.shape[0] // CHUNK + N)


def _default_segments(q: Tensor, v: Tensor, N: int, tiles: int, shape: Shape) -> int:
    """Segments of a launch; 1 but on the cards whose times `choose_segments` estimates."""
    processors = processors_of(q)
    if processors is None or current_target().arch != "90" or shape.ahead < 2:
        return 1
    span_tiles = triton.cdiv(v.shape[2] + q.shape[2], SPAN_COLUMNS)
    return choose_segments(N, q.shape[0], v.shape[1], tiles, span_tiles, processors, shape.chunk)


def _check_shape(shape: Shape, q: Tensor, k: Tensor, v: Tensor, N: int, exact: bool) -> None:
    """Raises ValueError for a shape that was given and cannot serve these operands."""
    refuse_wrong(shape, current_target(), moves_in_words(q, k), v.shape[2], exact)
    if not shape.groups:
        return
    fits = not exact and shape.chunk == 64 and v.shape[2] % (64 * shape.groups) == 0 and _hopper_takes(q, k, v, N)
    if not fits or current_target() != Target("cuda", "90"):
        raise ValueError(
            f"shape={shape}: Hopper's scan runs on Hopper, and takes chunks of 64 tokens, 16-bit operands whose tokens "
            f"begin at multiples of 16 bytes, K=64 or 128 and V a multiple of {64 * shape.groups}; use groups=0"
        )
