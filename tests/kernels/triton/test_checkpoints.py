"""Checkpoint states of `chunk_delta` in the interpreter: the recurrence's own, in their entries, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import split_qkv

from ..launches import same_bits
from .chunk_launches import EXACT, HALF, Launch, hats, live
from .planting import Edit, planted
from .problems import Buffer
from .test_chunk import shape_of

pytest.importorskip("triton")
ROWS = (
    (64, 3, 3, True),
    (63, 1, 5, False),
    (130, -1, 2, True),
    (300, 4, 6, False),
    (0, 2, 0, False),
    (129, 5, 7, True),
)
PLAIN = Launch(ROWS)
OPTIONS = {
    "every 64": (PLAIN, 64, torch.float32),
    "every 128, some rows without": (PLAIN, 128, torch.float32),
    "longer than any row": (PLAIN, 320, torch.float32),
    "KV, K above V": (replace(PLAIN, state_order="KV", K=24, V=3), 64, torch.float32),
    "K below V, gaps, tail": (replace(PLAIN, K=8, V=40, gap=5, tail=70), 64, torch.float32),
    "bfloat16 of a float32 state": (PLAIN, 64, torch.bfloat16),
    "float32 of a bfloat16 state": (replace(PLAIN, pool=torch.bfloat16), 64, torch.float32),
    "float16, three heads to a key": (replace(PLAIN, ratio=3), 64, torch.float16),
    "read elsewhere, padding by an id": (replace(PLAIN, reads=True, pad_slot_id=5), 64, torch.float32),
    "narrow operands, chunks of 32": (replace(PLAIN, dtype=torch.bfloat16), 64, torch.float32),
    "three segments": (replace(PLAIN, segments=3), 64, torch.float32),
    "a segment for each chunk, KV": (replace(PLAIN, segments=50, state_order="KV", K=24), 64, torch.float32),
    "narrow operands, chunks of 64": (replace(PLAIN, dtype=torch.bfloat16, chunk=64), 64, torch.float32),
}


def call(launch: Launch, states: Tensor, output: Tensor, checkpoints: Tensor | None, every: int) -> Tables:
    from gdn_verify.kernels.triton.chunk import chunk_delta

    tables = launch.tables()
    chunk_delta(
        *launch.inputs(), states, tables, state_order=launch.state_order, pad_slot_id=launch.pad_slot_id,
        output=output, checkpoints=checkpoints, checkpoint_every=every,
        shape=shape_of(launch),
    )  # fmt: skip
    return tables


def due(launch: Launch, tables: Tables, every: int) -> Iterator[tuple[int, int, int]]:
    """(entry, row, tokens of the row before it) of every checkpoint."""
    bounds, alive = tables.query_start_loc.tolist(), {first for first, _, _ in live(tables, launch)}
    for row, (first, stop) in enumerate(pairwise(bounds)):
        if stop > first and first in alive:
            yield from ((first // every + j, row, (j + 1) * every) for j in range((stop - first) // every))


def state_after(launch: Launch, tables: Tables, row: int, tokens: int) -> Tensor:
    """What the fallback has in a row's slot after its first tokens, in float32."""
    q, k, v, g, beta = launch.inputs()
    first = int(tables.query_start_loc[row])
    part = slice(first, first + tokens)
    states, slot = launch.states().view.float(), tables.state_indices[row : row + 1]
    alone = Tables(
        torch.tensor([0, tokens]), slot,
        has_initial_state=None if tables.has_initial_state is None else tables.has_initial_state[row : row + 1],
        read_indices=None if tables.read_indices is None else tables.read_indices[row : row + 1],
    )  # fmt: skip
    delta_rule(
        *hats(q[part], k[part], launch), v[part].float(), g[part], beta[part], states, slot, alone.query_start_loc,
        alone.has_initial_state, read_indices=alone.read_indices, state_order=launch.state_order,
    )  # fmt: skip
    return states[int(slot)]


def check(launch: Launch, every: int, dtype: torch.dtype) -> int:
    """In the interpreter's process: one launch, every byte of the checkpoints accounted for; how many there are."""
    T = sum(row[0] for row in launch.rows) + launch.tail
    plain, states = launch.states(), launch.states()
    memory = Buffer.make((T // every + 5, *states.view.shape[1:]), dtype, gap=launch.gap)
    before, entries = memory.copy(), memory.view[2:-2]  # a defect must not write into what is the process's own
    outputs = [torch.zeros(T, launch.HV, launch.V) for _ in range(2)]
    call(launch, plain.view, outputs[0], None, 0)
    tables = call(launch, states.view, outputs[1], entries, every)
    assert same_bits(*outputs), "checkpoints change o"
    assert same_bits(plain.storage, states.storage), "checkpoints change the states"
    narrow = launch.dtype != torch.float32 or dtype != torch.float32
    found = list(due(launch, tables, every))
    assert len({entry for entry, _, _ in found}) == len(found)
    for entry, row, tokens in found:
        expected, actual = state_after(launch, tables, row, tokens), entries[entry].float()
        error = (actual - expected).norm() / expected.norm()
        assert error < (HALF if narrow else EXACT), f"checkpoint of row {row} after {tokens}: {error:.1e}"
        before.view[2 + entry] = entries[entry]
    assert same_bits(before.storage, memory.storage), "entries of no checkpoint were written"
    return len(found)


@pytest.mark.parametrize(("launch", "every", "dtype"), OPTIONS.values(), ids=OPTIONS)
def test_a_checkpoint_is_the_state_after_so_many_tokens(interpreted, launch, every, dtype):
    """Of rows that reach none, one and several; the launch itself is the same bits."""
    made = interpreted(check, launch, every, dtype)
    assert (made > 0) == (every < 300)


def check_single_rounding() -> None:
    """In the interpreter's process: a narrow checkpoint is the float32 one, rounded; so is a final state."""
    launch, T = replace(PLAIN, rows=((128, 3, 3, True),)), 128
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        entries, states = torch.zeros(2, launch.HV, launch.V, launch.K, dtype=dtype), launch.states()
        call(launch, states.view, torch.zeros(T, launch.HV, launch.V), entries, 64)
        found.append(entries)
        assert same_bits(entries[1], states.view[3].to(dtype))
    assert same_bits(found[0].bfloat16(), found[1])


def test_a_checkpoint_is_rounded_once(interpreted):
    """From the running state, which it does not round."""
    interpreted(check_single_rounding)


DEFECTS = [
    Edit("the entry of the next one", "scan_kernel.py", "done // EVERY - 1", "done // EVERY"),
    Edit("entries count from the row's number", "scan_kernel.py", "entry = first // EVERY", "entry = row"),
    Edit("the state a chunk later", "scan_kernel.py", "done = begin + C\n", "done = begin\n"),
    Edit("a chunk that is not full", "scan_kernel.py", "(done <= length)", "(done <= length + 63)"),
    Edit("not where a row ends", "scan_kernel.py", "(done <= length)", "(done < length)"),
    Edit("the launch goes on from the rounded state", "scan_kernel.py", "            if (done % EVERY == 0) &",
         "            h = h.to(checkpoints.dtype.element_ty).to(tl.float32)\n            if (done % EVERY == 0) &"),
]  # fmt: skip


def found(edit: Edit) -> bool:
    """In the interpreter's process: whether a launch of kernels with this edit fails."""
    launch = replace(PLAIN, pad_slot_id=5)
    with planted(edit):
        try:
            check(launch, 64, torch.bfloat16)
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("edit", DEFECTS, ids=str)
def test_a_planted_defect_is_found(interpreted, edit):
    """A check that finds nothing says nothing."""
    assert interpreted(found, edit)


def check_whole_layer() -> None:
    """In the interpreter's process: `chunked_prefill` hands on what it is given, and its operator does."""
    from gdn_verify.kernels import ops
    from gdn_verify.kernels.triton.chunk import chunk_delta
    from gdn_verify.kernels.triton.conv_prefill import prepare_prefill
    from gdn_verify.kernels.triton.prefill import chunked_prefill

    from .test_prefill import Prefill

    problem = Prefill(((70, 3, 9, True), (130, 5, 10, False)), slots=12)
    layer, tables, made = problem.layer(), problem.tables(), []
    for function in (chunked_prefill, ops.chunked_prefill):
        on, entries = problem.buffers(layer), torch.full((3, layer.num_v_heads, problem.V, problem.K), torch.nan)
        function(
            on["qkvz"].view, on["ba"].view, layer, on["conv_pool"].view, on["pool"].view, tables, checkpoints=entries,
            checkpoint_every=64,
        )  # fmt: skip
        made.append(entries)
    on, entries = problem.buffers(layer), torch.full_like(made[0], torch.nan)
    mixed, g, beta = prepare_prefill(
        on["qkvz"].view, on["ba"].view, layer, on["conv_pool"].view, tables, packing="flat", pad_slot_id=None,
        z_output=None,
    )  # fmt: skip
    chunk_delta(
        *split_qkv(mixed, *layer.geometry), g, beta, on["pool"].view, tables, scale=layer.scale,
        checkpoints=entries, checkpoint_every=64,
    )  # fmt: skip
    assert torch.isfinite(entries).all()
    assert all(same_bits(x, entries) for x in made)


def test_the_whole_layer_hands_them_on(interpreted):
    """From packed projections, and through the operator."""
    interpreted(check_whole_layer)


def check_refusals() -> list[str]:
    """In the interpreter's process: what is said of checkpoints that do not fit; nothing is launched."""
    from gdn_verify.kernels.triton.chunk import chunk_delta

    launch, states, said = PLAIN, PLAIN.states(), []
    before = states.copy()
    entries = torch.zeros(sum(row[0] for row in ROWS) // 64, *states.view.shape[1:])
    for given, every in (
        (None, 64), (entries, 0), (entries, -64), (entries, 96), (entries[1:], 64), (entries[:, :1], 64),
        (entries.double(), 64), (entries.mT, 64),
    ):  # fmt: skip
        try:
            chunk_delta(*launch.inputs(), states.view, launch.tables(), checkpoints=given, checkpoint_every=every)
        except ValueError as error:
            said.append(str(error))
    assert same_bits(before.storage, states.storage)
    return said


def test_what_does_not_fit_is_refused(interpreted):
    """By name and value, with the way out."""
    assert interpreted(check_refusals) == [
        "checkpoint_every=64 is given without checkpoints; give both or neither",
        "checkpoint_every=0 must be a positive multiple of 64; round it up to 64",
        "checkpoint_every=-64 must be a positive multiple of 64; round it up to 64",
        "checkpoint_every=96 must be a positive multiple of 64; round it up to 128",
        "checkpoints has 9 entries; 686 tokens with checkpoint_every=64 need 10",
        "checkpoints has shape [10, 1, 16, 16]; it must be [any, 2, 16, 16]",
        "checkpoints has dtype torch.float64; convert it to one of "
        "['torch.float32', 'torch.bfloat16', 'torch.float16']",
        "checkpoints has strides (512, 256, 1, 16); each entry must be contiguous, whatever its stride",
    ]
