"""`chunk_delta` in segments, in the interpreter: the recurrence, whatever the cut, and nothing else touched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gdn_verify.kernels.rows import Tables

from ..launches import same_bits
from .chunk_launches import LONG, Launch
from .planting import Edit, planted
from .test_chunk import check, shape_of
from .test_chunk_laws import K, Sequence, near, states

pytest.importorskip("triton")
ROWS = (
    (0, 2, 0, False), (1, 0, 1, True), (63, 3, 4, True), (300, 5, 6, True), (64, 7, 8, False), (130, -1, 9, True),
    (65, 10, 11, True), (0, 12, 12, True),
)  # fmt: skip
PLAIN = Launch(ROWS, slots=13)
EVERY_CHUNK = 50
OPTIONS = {
    "two": replace(PLAIN, segments=2),
    "three": replace(PLAIN, segments=3),
    "five": replace(PLAIN, segments=5),
    "one for each chunk": replace(PLAIN, segments=EVERY_CHUNK),
    "one row": replace(PLAIN, rows=((300, 3, 3, True),), segments=5),
    "one row, one chunk": replace(PLAIN, rows=((7, 3, 3, True),), segments=2),
    "no row has tokens": replace(PLAIN, rows=((0, 3, 3, True),) * 3, tail=5, segments=2),
    "no initial states": replace(PLAIN, rows=tuple((n, s, r, False) for n, s, r, _ in ROWS), segments=5),
    "all with states": replace(PLAIN, known=False, segments=5),
    "read elsewhere": replace(PLAIN, reads=True, segments=5),
    "padding by an id, int64, tail": replace(PLAIN, pad_slot_id=5, index=torch.int64, tail=9, segments=5),
    "untouched pads, tail, gaps": replace(PLAIN, pad_slot_id=10, zero_pads=False, tail=9, gap=5, segments=5),
    "KV, K above V": replace(PLAIN, state_order="KV", K=40, V=3, segments=5),
    "K below V": replace(PLAIN, K=8, V=40, segments=5),
    "more than one tile of either": replace(PLAIN, rows=ROWS[:4], dtype=torch.bfloat16, K=72, V=72, segments=5),
    "three heads to a key": replace(PLAIN, H=2, ratio=3, segments=5),
    "bfloat16 pool": replace(PLAIN, pool=torch.bfloat16, segments=5),
    "float16": replace(PLAIN, dtype=torch.float16, pool=torch.float16, segments=5),
    "bfloat16": replace(PLAIN, dtype=torch.bfloat16, segments=5),
    "bfloat16, chunks of 64": replace(PLAIN, dtype=torch.bfloat16, chunk=64, segments=5),
    "bfloat16 in float32": replace(PLAIN, dtype=torch.bfloat16, exact=True, segments=5),
    "bfloat16, keys alike": replace(PLAIN, dtype=torch.bfloat16, alike=True, decay=1e-4, segments=EVERY_CHUNK),
    "keys alike, beta to 2": replace(PLAIN, alike=True, decay=0.0, beta_scale=2.0, segments=EVERY_CHUNK),
    "forgets everything": replace(PLAIN, decay=200.0, segments=EVERY_CHUNK),
    "forgets nothing": replace(PLAIN, decay=0.0, segments=EVERY_CHUNK),
}


@pytest.mark.parametrize("launch", OPTIONS.values(), ids=OPTIONS)
def test_the_recurrence_in_segments(interpreted, launch):
    """Rows of no segment, one and several, with each option."""
    interpreted(check, launch)


def check_nan_of_others() -> None:
    """In the interpreter's process: tokens of padded rows and of none are NaN, and so are slots that nobody reads."""
    from gdn_verify.kernels.triton.chunk import chunk_delta

    launch = replace(PLAIN, tail=9, segments=5, pad_slot_id=10)
    tables, made = launch.tables(), []
    bounds = tables.query_start_loc.tolist()
    for poison in (0.0, torch.nan):
        inputs, pool = launch.inputs(), launch.states()
        for first, stop in ((bounds[5], bounds[6]), (bounds[6], bounds[7]), (bounds[8], bounds[8] + 9)):
            for x in inputs:
                x[first:stop] = poison
        pool.view[10] = poison
        o = chunk_delta(*inputs, pool.view, tables, pad_slot_id=10, shape=shape_of(launch))
        made.append((o, pool.view[[0, 3, 5, 7]]))
    assert torch.isfinite(made[1][0]).all()
    assert all(same_bits(x, y) for x, y in zip(*made, strict=True))


def test_nan_of_others_reaches_nothing(interpreted):
    """Of rows in front, behind and in between; the outputs there are zeros."""
    interpreted(check_nan_of_others)


def launch(given: Sequence, pool: Tensor, length: int, segments: int) -> Tensor:
    """The outputs of one row in slot 2, between two others."""
    from gdn_verify.kernels.triton.chunk import chunk_delta
    from gdn_verify.kernels.triton.shape import choose_shape
    from gdn_verify.kernels.triton.target import current_target

    shape = replace(choose_shape(current_target(), K, given.q.dtype == torch.float32), segments=segments)
    tables = Tables(torch.tensor([0, 5, 5 + length, 12 + length]), torch.tensor([0, 2, 4]))
    return chunk_delta(*given.tensors, pool, tables, shape=shape)


def cut_anyhow(dtype: torch.dtype) -> None:
    """However many segments, o and the states are those of whole rows within rounding."""
    given, whole = Sequence.draw(312, dtype), states()
    expected = launch(given, whole, 300, 1)
    for segments in (2, 3, 5, EVERY_CHUNK):
        pool = states()
        assert near(launch(given, pool, 300, segments), expected, dtype)
        assert near(pool, whole, dtype)


def repeated(dtype: torch.dtype) -> None:
    """The same launch gives the same bits."""
    pools = states(), states()
    first, second = (launch(Sequence.draw(312, dtype), pool, 300, 5) for pool in pools)
    assert same_bits(first, second)
    assert same_bits(*pools)


def causal(dtype: torch.dtype) -> None:
    """An edit of a token leaves the outputs before it bit-identical, and changes the last one's segment."""
    given = Sequence.draw(312, dtype)
    given = replace(given, g=0.02 * given.g)  # else the last segment has forgotten the first
    before = launch(given, states(), 300, 5)
    for edited in (5, 100, 250):
        other = Sequence(*(x.clone() for x in given.tensors))
        other.v[edited] += 100
        after = launch(other, states(), 300, 5)
        assert same_bits(after[:edited], before[:edited])
        assert not torch.equal(after[304], before[304])


def homogeneous(dtype: torch.dtype) -> None:
    """A power of two of v and the states is one of the results, bit for bit."""
    given, pool, scaled = Sequence.draw(312, dtype), states(), 4 * states()
    o = launch(given, pool, 300, 5)
    assert torch.equal(launch(replace(given, v=4 * given.v), scaled, 300, 5), 4 * o)
    assert torch.equal(scaled, 4 * pool)


def kept(dtype: torch.dtype) -> None:
    """With β = 0 and g = 0 every state stays as it is."""
    given, pool = Sequence.draw(312, dtype), states()
    nothing = torch.zeros_like(given.g)
    launch(replace(given, g=nothing, beta=nothing), pool, 300, EVERY_CHUNK)
    assert same_bits(pool, states())


LAWS: tuple[Callable[[torch.dtype], None], ...] = (cut_anyhow, repeated, causal, homogeneous, kept)


@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, marks=pytest.mark.slow), torch.bfloat16], ids=str)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_law_holds(interpreted, law, dtype):
    """For float32 operands and for narrow ones."""
    interpreted(law, dtype)


DEFECTS = [
    Edit("what a segment does to a state is not heard of", "join_kernel.py",
         "total = tl.dot(columns, chosen, total, input_precision=PRECISION)", "total += 0.0 * tl.sum(chosen)"),
    Edit("what a segment adds is not heard of", "join_kernel.py", "BV, WIDTH, PRECISION, UNROLL)\n",
         "BV, WIDTH, PRECISION, UNROLL) - total\n"),
    Edit("a part of the columns is left out", "join_kernel.py", "tl.range(0, PARTS", "tl.range(1, PARTS"),
    Edit("the segment before", "join_kernel.py", "        at += HV\n", "        at += 0 * HV\n"),
    Edit("the row's pool is read for every segment", "scan_kernel.py", "    if starts is None:\n        h",
         "    if True:\n        h"),
    Edit("each segment writes the pool", "scan_kernel.py", "    if stop == length:", "    if start == 0:"),
    Edit("has_initial_state is ignored", "join_kernel.py", "mask=tile_mask & known", "mask=tile_mask"),
    Edit("the slot that is written is read", "join_kernel.py", "    _, read, known", "    read, _, known"),
    Edit("columns of M do not begin at the identity", "span_kernel.py", "column - VX)", "column - VX + 1)"),
    Edit("M does not decay", "span_kernel.py", "h * whole", "h"),
    Edit("a segment has a chunk too few", "span_kernel.py", "range(start, stop, C)", "range(start + C, stop, C)"),
    Edit("values reach M", "span_kernel.py", "(column < V)[None, :]", "(column < VX + 1)[None, :]"),
]  # fmt: skip


def found(edit: Edit) -> bool:
    """In the interpreter's process: whether launches of kernels with this edit fail."""
    with planted(edit):
        try:
            check(replace(LONG, K=40, segments=EVERY_CHUNK, reads=True))
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("edit", DEFECTS, ids=str)
def test_a_planted_defect_is_found(interpreted, edit):
    """One place of the new kernels changed, each time."""
    assert interpreted(found, edit)


def check_launches() -> list[list[str]]:
    """In the interpreter's process: the kernels of launches by the number of segments."""
    from gdn_verify.emulator.interpreter import launches

    made = []
    for segments in (0, 1, 2):
        with launches() as ran:
            check(replace(LONG, segments=segments))
        made.append([x.kernel for x in ran])
    return made


def test_whole_rows_take_two_launches(interpreted):
    """By default too, where no card says that more are faster."""
    two = ["gdn_intra_kernel", "gdn_scan_kernel"]
    assert interpreted(check_launches) == [two, two, [two[0], "gdn_span_kernel", "gdn_join_kernel", two[1]]]


class Reads(TorchDispatchMode):
    """Counts the values that the host asks of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(options or {}))


class Unlaunched:
    """In the place of a kernel, so that only the host's part runs."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return lambda *arguments, **options: None


def reads() -> tuple[int, int]:
    """In the interpreter's process: values read by a launch in segments with checkpoints, and by an item."""
    from gdn_verify.kernels.triton import chunk, segments

    launch, tables, pool = PLAIN, PLAIN.tables(), PLAIN.states().view
    inputs, entries = launch.inputs(), torch.zeros(20, *pool.shape[1:])
    with ExitStack() as stack:
        for module in (chunk, segments):
            for name in [name for name in vars(module) if name.startswith("gdn_")]:
                stack.enter_context(patch.object(module, name, Unlaunched()))
        with Reads() as seen:
            shape = shape_of(replace(launch, segments=5))
            chunk.chunk_delta(*inputs, pool, tables, checkpoints=entries, checkpoint_every=64, shape=shape)
    with Reads() as control:
        int(tables.query_start_loc[-1])
    return seen.count, control.count


def test_the_host_reads_nothing(interpreted):
    """Else a launch could not be captured in a graph."""
    assert interpreted(reads) == (0, 1)


H100 = 132


@pytest.mark.parametrize(
    ("rows", "tokens", "heads", "processors", "segments"),
    [
        (1, 8192, 8, H100, 5),
        (1, 8192, 4, H100, 9),
        (2, 131072, 8, H100, 1),
        (1, 65536, 2, H100, 16),
        (1, 8192, 32, H100, 1),
        (1, 8192, 64, H100, 1),
        (8, 8192, 32, H100, 1),
        (4, 8192, 8, H100, 1),
        (1, 512, 8, H100, 1),
        (1, 1, 1, H100, 1),
        (64, 64, 8, H100, 1),
        (1, 8192, 8, 32, 1),
    ],
)
def test_rows_are_cut_where_processors_idle(rows, tokens, heads, processors, segments):
    """Few rows and heads and many chunks; not where a chip is full, and not where two launches cost what is won."""
    from gdn_verify.kernels.triton.segment_choice import choose_segments

    assert choose_segments(rows, tokens, heads, 2, 4, processors) == segments


@pytest.mark.parametrize("segments", [2, 3, 5, 1000])
@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 64), (3, 65), (2, 1000), (7, 4096)])
def test_a_cut_is_of_whole_chunks_and_covers_any_row(rows, tokens, segments):
    """Also the row that has all tokens."""
    from gdn_verify.kernels.triton.segments import Cut

    cut = Cut.of(rows, tokens, 64, segments)
    assert cut.tokens % 64 == 0
    assert -(-tokens // cut.tokens) <= segments
    assert cut.count >= tokens // cut.tokens + rows
