"""The last launch of a chunked prefill for Hopper, in Gluon: `scan_kernel`'s numbers, bit for bit, at memory's speed.

The state is kept transposed, 64 rows of V to a warpgroup: then the state and v' are left operands straight from
registers, and k, q, W and B are right operands as they lie in shared memory, where one warp has the copy engine bring
them some chunks ahead. No chunk waits for a barrier of the whole program, and o of a chunk is stored while the next one
multiplies.

Triton's interpreter has no Gluon: without a card, it is `scan_kernel` that is tested.
"""
# No `from __future__ import annotations`: aggregates compare the types of their fields with these objects.

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.core import _aggregate as aggregate

from gdn_verify.kernels.triton.hopper_rows import find_segment, find_slots, zero_pads

ROWS = gl.constexpr(64)
"""Rows of V of a warpgroup: as many as a wgmma instruction has."""
CONSUMER_REGISTERS = gl.constexpr(240)
"""Of a thread of the second warpgroup; the copying warp takes 24, and the first warpgroup what is left."""


@aggregate
class Ring:
    """Chunks in shared memory: STAGES places for each operand, and barriers that say which are filled, which free."""

    keys: gl.shared_memory_descriptor
    queries: gl.shared_memory_descriptor
    values: gl.shared_memory_descriptor
    W: gl.shared_memory_descriptor
    B: gl.shared_memory_descriptor
    factors: gl.shared_memory_descriptor
    full: gl.shared_memory_descriptor
    empty: gl.shared_memory_descriptor
    GROUPS: gl.constexpr
    STAGES: gl.constexpr

    @gluon.constexpr_function
    def __init__(
        self, keys, queries, values, W, B, factors, full, empty, GROUPS, STAGES
    ):  # fmt: skip  # type: ignore[no-untyped-def]
        self.keys, self.queries, self.values, self.W, self.B = keys, queries, values, W, B
        self.factors, self.full, self.empty = factors, full, empty
        self.GROUPS, self.STAGES = gl.constexpr(GROUPS), gl.constexpr(STAGES)


@aggregate
class Span:
    """The chunks of a program: where its state comes from and goes to, and its outputs.

    `length` tokens in `chunks`, none where the row is padded; `done` tokens of the row lie before them, modulo EVERY.
    `state_in` is the state at their start where it is `known`; `last` says whether the row ends here.
    """

    state_in: gl.tensor
    state_out: gl.tensor
    kept: gl.tensor
    out: gl.tensor
    length: gl.tensor
    chunks: gl.tensor
    done: gl.tensor
    known: gl.tensor
    last: gl.tensor
    stride_out: gl.tensor
    stride_kept: gl.tensor
    V: gl.constexpr
    IN_KV: gl.constexpr
    OUT_KV: gl.constexpr
    EVERY: gl.constexpr

    @gluon.constexpr_function
    def __init__(
        self, state_in, state_out, kept, out, length, chunks, done, known, last, stride_out, stride_kept, V,
        IN_KV, OUT_KV, EVERY,
    ):  # fmt: skip
        self.state_in, self.state_out, self.kept, self.out = state_in, state_out, kept, out
        self.length, self.chunks, self.done, self.known, self.last = length, chunks, done, known, last
        self.stride_out, self.stride_kept = stride_out, stride_kept
        self.V, self.IN_KV, self.OUT_KV = gl.constexpr(V), gl.constexpr(IN_KV), gl.constexpr(OUT_KV)
        self.EVERY = gl.constexpr(EVERY)


@gluon.jit(do_not_specialize=["num_rows", "num_tokens", "num_slots", "segment_tokens"])
def gdn_hopper_scan_kernel(
    q, k, v, w, b, factors, pool, state_indices, read_indices, query_start_loc, has_initial_state, out, starts,
    checkpoints,
    num_rows, num_tokens, num_slots, segment_tokens, stride_pool, stride_index, stride_read, stride_out, stride_kept,
    H: gl.constexpr, HV: gl.constexpr, K: gl.constexpr, V: gl.constexpr, C: gl.constexpr, GROUPS: gl.constexpr,
    STAGES: gl.constexpr, STATE_KV: gl.constexpr, PAD: gl.constexpr, ZERO_PADS: gl.constexpr, EVERY: gl.constexpr,
    NP: gl.constexpr,
):  # fmt: skip
    """`gdn_scan_kernel` tells what the operands are; q to factors are descriptors. A program has GROUPS · 64 rows of V.

    C is 64. Without `checkpoints` the pool stands in their place.
    """
    TILES: gl.constexpr = V // (ROWS * GROUPS)
    pid = gl.program_id(0)
    head = pid // TILES % HV
    part = pid // (TILES * HV)
    place = pid % TILES * (ROWS * GROUPS)
    row, first, whole, start = find_segment(query_start_loc, part, num_rows, segment_tokens, NP, starts is None)
    length = whole - start
    if starts is not None:  # a segment behind its row's end has no tokens, and not fewer than none
        length = gl.maximum(gl.minimum(length, segment_tokens), 0)
    own, read, known, live = find_slots(
        state_indices, read_indices, has_initial_state, row, num_slots, stride_index, stride_read, PAD
    )
    column = head * V + place
    if starts is not None:
        wait_for_launch_before()
    if ZERO_PADS:
        zero_pads(
            out + column, query_start_loc, row, first, start, length, live, num_rows, num_tokens, stride_out,
            ROWS * GROUPS,
        )  # fmt: skip
    live = live & (length > 0)
    chunks = gl.where(live, (length + C - 1) // C, 0)

    ring = make_ring(k, q, v, w, b, factors, K, C, GROUPS, STAGES)
    LINES: gl.constexpr = gl.NVMMASharedLayout.get_default_for([C, ROWS], out.dtype.element_ty)
    passing = gl.allocate_shared_memory(out.dtype.element_ty, [GROUPS, C, ROWS], LINES)
    STEP: gl.constexpr = 1 if STATE_KV else K
    inner = head.to(gl.int64) * (V * K) + place * STEP
    state_in, known = state_before(pool, starts, read * stride_pool + inner, part, head, place, known, live, HV, V, K)
    DIVISOR: gl.constexpr = EVERY if EVERY else C
    span = Span(
        state_in, pool + gl.where(live, own, 0) * stride_pool + inner,
        checkpoints + (first // DIVISOR + start // DIVISOR).to(gl.int64) * stride_kept + inner,
        out + (first + start).to(gl.int64) * stride_out + column, length, chunks, start % DIVISOR, known,
        live & (start + length == whole), gl.to_tensor(stride_out), gl.to_tensor(stride_kept), V,
        STATE_KV or starts is not None, STATE_KV, EVERY,
    )  # fmt: skip
    key_column = head // (HV // H) * K
    unit = (first // C + row + start // C) * HV + head
    if GROUPS == 1:
        gl.warp_specialize(
            [
                (consume_first, (ring, passing, span)),
                (produce, (ring, k, q, v, w, b, factors, first + start, chunks, key_column, column, unit, HV)),
            ],
            [1], [24],
        )  # fmt: skip
    else:
        gl.warp_specialize(
            [
                (consume_first, (ring, passing, span)),
                (consume_second, (ring, passing, span)),
                (produce, (ring, k, q, v, w, b, factors, first + start, chunks, key_column, column, unit, HV)),
            ],
            [4, 1], [CONSUMER_REGISTERS, 24],
        )  # fmt: skip


@gluon.jit
def state_before(pool, starts, at, part, head, place, known, live, HV: gl.constexpr, V: gl.constexpr, K: gl.constexpr):
    """(where the state before a program's chunks stands, whether there is one): the pool, or a cut row's starts."""
    if starts is None:
        return pool + gl.where(live & known, at, 0), known & live
    else:
        return starts + (part.to(gl.int64) * HV + head) * (V * K) + place, live


@gluon.jit
def make_ring(k, q, v, w, b, factors, K: gl.constexpr, C: gl.constexpr, GROUPS: gl.constexpr, STAGES: gl.constexpr):
    """A ring, all of it free."""
    dtype: gl.constexpr = k.dtype
    keys = gl.allocate_shared_memory(dtype, [STAGES, C, K], k.layout)
    queries = gl.allocate_shared_memory(dtype, [STAGES, C, K], q.layout)
    values = gl.allocate_shared_memory(dtype, [STAGES * GROUPS, C, ROWS], v.layout)
    W = gl.allocate_shared_memory(dtype, [STAGES, C, K], w.layout)
    B = gl.allocate_shared_memory(dtype, [STAGES, C, C], b.layout)
    scales = gl.allocate_shared_memory(gl.float32, [STAGES, 4 * C], factors.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=GROUPS)
    fence_async_shared()  # the copy engine sees the barriers as they are now, and what else stood in this memory
    return Ring(keys, queries, values, W, B, scales, full, empty, GROUPS, STAGES)


@gluon.jit
def wait_for_launch_before():
    """Until the launch before has ended and all can see what it wrote; at once where this one did not begin earlier.

    With `launch_pdl` it does. Only what copies W, B and the factors waits, and whoever reads `starts`: nothing else
    that is read here was written by the launch before, and nothing that it reads is written here.
    """
    gl.inline_asm_elementwise("griddepcontrol.wait; // $0", "=r", [], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def produce(ring, k, q, v, w, b, factors, token, chunks, key_column, value_column, unit, HV: gl.constexpr):
    """One warp: brings each chunk as soon as its place is free; what is multiplied first comes first."""
    C: gl.constexpr = ring.keys.shape[1]
    K: gl.constexpr = ring.keys.shape[2]
    BYTES: gl.constexpr = 2 * (3 * C * K + C * ROWS * ring.GROUPS + C * C) + 16 * C
    wait_for_launch_before()
    for i in range(chunks):
        stage = i % ring.STAGES
        filled = ring.full.index(stage)
        mbarrier.wait(ring.empty.index(stage), ((i // ring.STAGES) & 1) ^ 1)
        mbarrier.expect(filled, BYTES)
        tma.async_copy_global_to_shared(k, [token, key_column], filled, ring.keys.index(stage))
        for group in gl.static_range(ring.GROUPS):
            place = ring.values.index(stage * ring.GROUPS + group)
            tma.async_copy_global_to_shared(v, [token, value_column + group * ROWS], filled, place)
        tma.async_copy_global_to_shared(factors, [unit * (3 * C)], filled, ring.factors.index(stage))
        tma.async_copy_global_to_shared(q, [token, key_column], filled, ring.queries.index(stage))
        tma.async_copy_global_to_shared(w, [unit * C, 0], filled, ring.W.index(stage))
        tma.async_copy_global_to_shared(b, [unit * C, 0], filled, ring.B.index(stage))
        token += C
        unit += HV


@gluon.jit
def consume_first(ring, passing, span):
    """The first warpgroup."""
    consume(ring, passing.index(0), span, 0)


@gluon.jit
def consume_second(ring, passing, span):
    """The second warpgroup."""
    consume(ring, passing.index(1), span, 1)


@gluon.jit
def consume(ring, passing, span, GROUP: gl.constexpr):
    """64 rows of the state over all chunks."""
    C: gl.constexpr = ring.keys.shape[1]
    K: gl.constexpr = ring.keys.shape[2]
    SMALL: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, C, 16])
    h = gl.load(span.state_in + offsets(GROUP, K, span.V, span.IN_KV), mask=span.known, other=0).to(gl.float32)
    operand = gl.convert_layout(h.to(ring.keys.dtype), gl.DotOperandLayout(0, SMALL, 2))
    h = decay(h, 0, ring, span)
    y = gl.zeros([ROWS, C], passing.dtype, SMALL)
    o = span.out + GROUP * ROWS
    step = here(gl.to_tensor(C)) * span.stride_out
    full = span.length // C
    for i in range(gl.minimum(full, span.chunks)):
        h, operand, y = advance(h, operand, y, o - step, i, ring, passing, span, GROUP, False)
        o += step
    if full < span.chunks:
        h, operand, y = advance(h, operand, y, o - step, full, ring, passing, span, GROUP, True)
        o += step
    if span.chunks > 0:
        store_output(y, passing, o - step, span.length - (span.chunks - 1) * C, span.stride_out)
    if span.last:
        at = span.state_out + offsets(GROUP, K, span.V, span.OUT_KV)
        gl.store(at, h.to(span.state_out.dtype.element_ty))


@gluon.jit
def offsets(GROUP: gl.constexpr, K: gl.constexpr, V: gl.constexpr, KV: gl.constexpr):
    """Of a warpgroup's rows of the state, [64, K], from a program's first number on."""
    LARGE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, K, 16])
    v = here(GROUP * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, LARGE)))
    k = gl.arange(0, K, gl.SliceLayout(0, LARGE))
    if KV:
        return v[:, None] + k[None, :] * V
    else:
        return v[:, None] * K + k[None, :]


@gluon.jit
def decay(h, i, ring, span):
    """e^(G_C) h of chunk i, once that is there; h itself after the last chunk."""
    C: gl.constexpr = ring.keys.shape[1]
    stage = i % ring.STAGES
    mbarrier.wait(ring.full.index(stage), (i // ring.STAGES) & 1, pred=i < span.chunks)
    whole = ring.factors.index(stage).slice(3 * C - 1, 1).load(gl.SliceLayout(1, h.type.layout))
    return h * gl.where(i < span.chunks, whole, 1.0)[:, None]


@gluon.jit
def advance(h, operand, y, out, i, ring, passing, span, GROUP: gl.constexpr, PARTIAL: gl.constexpr):
    """(the state after chunk i, decayed for the next; itself as an operand; o); stores o of the chunk before, `y`.

    What was brought for tokens that a PARTIAL chunk does not have may be of another row, and NaN. Nothing that a
    product has left in registers is used beyond the turn of the loop but by another product: the assembler would wait
    there for every product under way.
    """
    C: gl.constexpr = ring.keys.shape[1]
    SMALL: gl.constexpr = y.type.layout
    TOKENS: gl.constexpr = gl.SliceLayout(0, SMALL)
    OF_SMALL: gl.constexpr = gl.DotOperandLayout(0, SMALL, 2)
    OF_LARGE: gl.constexpr = gl.DotOperandLayout(0, h.type.layout, 2)
    stage = i % ring.STAGES
    factors = ring.factors.index(stage)
    nothing = gl.zeros([ROWS, C], gl.float32, SMALL)
    x = warpgroup_mma(operand, ring.keys.index(stage).permute((1, 0)), nothing, use_acc=False, is_async=True)
    z = warpgroup_mma(operand, ring.queries.index(stage).permute((1, 0)), nothing, use_acc=False, is_async=True)
    store_output(y, passing, out, gl.where(i > 0, C, 0), span.stride_out)
    held = ring.values.index(stage * ring.GROUPS + GROUP).permute((1, 0)).load(SMALL).to(gl.float32)
    of_keys = factors.slice(0, C).load(TOKENS)
    x = warpgroup_mma_wait(1, deps=[x])
    fresh = held - x * of_keys[None, :]
    if PARTIAL:
        fresh = gl.where((gl.arange(0, C, TOKENS) < span.length - i * C)[None, :], fresh, 0.0)
    fresh = fresh.to(ring.keys.dtype)
    h = warpgroup_mma(gl.convert_layout(fresh, OF_LARGE), ring.W.index(stage), h, is_async=True)
    z = warpgroup_mma_wait(1, deps=[z])
    z *= factors.slice(C, C).load(TOKENS)[None, :]
    z = warpgroup_mma(gl.convert_layout(fresh, OF_SMALL), ring.B.index(stage).permute((1, 0)), z, is_async=True)
    h = warpgroup_mma_wait(1, deps=[h])
    operand = gl.convert_layout(h.to(ring.keys.dtype), OF_SMALL)
    if span.EVERY and not PARTIAL:
        store_checkpoint(h, span.done + (i + 1) * C, span, GROUP)
    h = decay(h, i + 1, ring, span)
    y = warpgroup_mma_wait(0, deps=[z]).to(passing.dtype)
    mbarrier.arrive(ring.empty.index(stage), count=1)
    return h, operand, y


@gluon.jit
def store_checkpoint(h, tokens, span, GROUP: gl.constexpr):
    """The state after so many tokens, counted from a multiple of EVERY, where one is due."""
    if tokens % span.EVERY == 0:
        at = span.kept + (tokens // span.EVERY - 1).to(gl.int64) * span.stride_kept
        at += offsets(GROUP, h.shape[1], span.V, span.OUT_KV)
        gl.store(at, h.to(span.kept.dtype.element_ty))


@gluon.jit
def here(x):
    """x of int32; what is computed from it is computed where it stands, and not before the warpgroups part ways.

    There each thread has fewer registers, and would put numbers aside in memory.
    """
    return gl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def store_output(y, passing, out, left, stride_out):
    """o of `left` tokens of a chunk, [64, C], through shared memory so that whole lines are stored."""
    C: gl.constexpr = y.shape[1]
    LINES: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
    passing.permute((1, 0)).store(y)
    o = passing.load(LINES)
    token = here(gl.arange(0, C, gl.SliceLayout(1, LINES)))
    column = gl.arange(0, ROWS, gl.SliceLayout(0, LINES))
    at = out + token[:, None] * stride_out + column[None, :]
    gl.store(at, o, mask=(token < left)[:, None])
