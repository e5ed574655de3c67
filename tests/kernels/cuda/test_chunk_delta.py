"""`cuda.prefill.chunk_delta`, emulated: the fallback's recurrence, and no other bit touched."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from gdn_verify.kernels.cuda.chunks import ChunkConfig
from gdn_verify.kernels.cuda.emulate import scheduled
from gdn_verify.kernels.cuda.prefill import chunk_delta
from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.stages import qk_norm

from ..triton.chunk_launches import LONG, SHORT, Launch, account

BRIEF = replace(SHORT, K=64, V=32, dtype=torch.bfloat16)
ROWS = replace(LONG, K=64, V=32, dtype=torch.bfloat16)
HEAD = replace(ROWS, K=128, V=128, ratio=1)
OPTIONS = {
    "short": BRIEF,
    "long": ROWS,
    "heads of 128": HEAD,
    "no initial states": replace(ROWS, rows=tuple((n, s, r, False) for n, s, r, _ in ROWS.rows)),
    "all with states": replace(BRIEF, known=False),
    "forgets everything": replace(ROWS, decay=200.0),
    "forgets nothing": replace(ROWS, decay=0.0),
    "keys alike": replace(ROWS, alike=True, decay=1e-4),
    "three heads to a key": replace(BRIEF, H=2, ratio=3),
    "K above V": replace(ROWS, K=128, V=16),
    "K below V": replace(BRIEF, V=256, ratio=1),
    "three warps": replace(BRIEF, V=96, ratio=1),
    "KV": replace(ROWS, state_order="KV"),
    "KV, heads of 128": replace(HEAD, state_order="KV", rows=HEAD.rows[:2]),
    "gaps, tail": replace(BRIEF, gap=5, tail=4),
    "untouched pads": replace(BRIEF, tail=4, zero_pads=False),
    "int64, padding by an id": replace(BRIEF, index=torch.int64, pad_slot_id=4),
    "read elsewhere": replace(ROWS, reads=True),
    "given scale, no norm": replace(BRIEF, scale=0.25, qk_norm=False, decay=1.0, beta_scale=0.02),
    "bfloat16 pool": replace(ROWS, pool=torch.bfloat16),
    "float16, and its pool": replace(ROWS, dtype=torch.float16, pool=torch.float16),
}
SPLIT = ("long", "heads of 128", "KV", "three warps", "untouched pads", "gaps, tail")


@pytest.mark.parametrize("launch", OPTIONS.values(), ids=OPTIONS)
def test_the_recurrence_over_rows_of_any_length(launch: Launch) -> None:
    """Rows shorter than a chunk, of one and of several, with each option; o in float32."""
    account(launch, chunk_delta)


@pytest.mark.parametrize("splits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", SPLIT)
def test_v_in_parts(name: str, splits: int) -> None:
    """As many as there are rows of V for."""
    account(OPTIONS[name], partial(chunk_delta, config=ChunkConfig(splits)))


@pytest.mark.parametrize("launch", [ROWS, HEAD], ids=["heads of 64 and 32", "heads of 128"])
@pytest.mark.parametrize("splits", [1, 2])
def test_no_order_of_blocks_and_warps_changes_a_bit(launch: Launch, splits: int) -> None:
    """Five of them; o in bfloat16, by words."""
    found = []
    for seed in range(5):
        operands, tables, states = launch.inputs(), launch.tables(), launch.states()
        with scheduled(seed):
            found.append((chunk_delta(*operands, states.view, tables, config=ChunkConfig(splits)), states.storage))
    assert not found[0][0].isnan().any()
    for o, states in found[1:]:
        assert torch.equal(o, found[0][0])
        assert torch.equal(states.view(torch.uint8), found[0][1].view(torch.uint8))


def test_splits_change_no_bit() -> None:
    """Every row of V is computed alike."""
    found = []
    for splits in (1, 2, 4, 8):
        operands, tables, states = HEAD.inputs(), HEAD.tables(), HEAD.states()
        found.append((chunk_delta(*operands, states.view, tables, config=ChunkConfig(splits)), states.view))
    assert all(torch.equal(o, found[0][0]) for o, _ in found[1:])
    live = [slot for length, slot, _, _ in HEAD.rows if length]
    assert all(torch.equal(states[live], found[0][1][live]) for _, states in found[1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_outputs_of_any_type_and_stride(dtype: torch.dtype) -> None:
    """By words where tokens are at multiples of 16 bytes, else number by number: the same."""
    operands, tables, states = ROWS.inputs(), ROWS.tables(), ROWS.states()
    wide = torch.full((*operands[2].shape[:2], 35), 77.0, dtype=torch.float32)
    want = chunk_delta(*operands, states.view.clone(), tables, output=wide[..., :32].contiguous())
    for pad in (0, 1, 8):
        flat = torch.full((want.shape[0], want.shape[1] * 32 + pad), 77.0, dtype=dtype)
        out = flat[:, : want.shape[1] * 32].unflatten(1, want.shape[1:])
        chunk_delta(*operands, states.view.clone(), tables, output=out)
        assert torch.equal(out, want.to(dtype))
        assert (flat[:, want.shape[1] * 32 :] == 77).all()


def test_g_and_beta_of_any_type() -> None:
    """Of other types than each other's, too."""
    q, k, v, g, beta = ROWS.inputs()
    tables, states = ROWS.tables(), ROWS.states()
    halves = g.bfloat16(), beta.half()
    got = chunk_delta(q, k, v, *halves, states.view.clone(), tables)
    assert torch.equal(got, chunk_delta(q, k, v, *(x.float() for x in halves), states.view.clone(), tables))


def test_heads_of_a_token_must_be_neighbours() -> None:
    """In g and beta too; what lies elsewhere would be read in silence."""
    q, k, v, g, beta = ROWS.inputs()
    with pytest.raises(ValueError, match="beta has strides"):
        chunk_delta(q, k, v, g, beta.t().contiguous().t(), ROWS.states().view, ROWS.tables())


REFUSED = {
    "q has dtype torch.float32": replace(BRIEF, dtype=torch.float32),
    "q has K=32; the CUDA kernel takes 64, 128": replace(BRIEF, K=32),
    "v has V=24": replace(BRIEF, V=24),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_it_does_not_take_is_refused(words: str) -> None:
    """Before a pool is touched, with who takes it."""
    launch = REFUSED[words]
    with pytest.raises(ValueError, match=f"{words}.*triton.chunk.chunk_delta takes it"):
        chunk_delta(*launch.inputs(), launch.states().view, launch.tables())


def test_tokens_between_words_are_refused() -> None:
    """Copies are of 16 bytes."""
    q, k, v, g, beta = BRIEF.inputs()
    shifted = torch.cat([v.new_zeros(1), v.flatten()])[1:].view(v.shape)
    with pytest.raises(ValueError, match="v has token stride 64; its tokens must begin at multiples of 16 bytes"):
        chunk_delta(q, k, shifted, g, beta, BRIEF.states().view, BRIEF.tables())


@pytest.mark.parametrize("decay", [0.1, 0.2, 0.3])
def test_what_was_written_long_before_the_chunks_end(decay: float) -> None:
    """Only its first eight tokens write, and e^(G_C - G) is less than float16's denormals: h is theirs all the same."""
    assert early_writers(decay) < 3e-3


def early_writers(decay: float) -> float:
    """The relative error of h, of norms."""
    launch = replace(BRIEF, rows=((64, 0, 0, False),), ratio=1)
    (q, k, v, g, beta), tables, states = launch.inputs(), launch.tables(), launch.states().view
    g.fill_(-decay)
    beta[8:] = 0
    expected = torch.zeros_like(states, dtype=torch.float32)
    states.zero_()
    delta_rule(
        *qk_norm(q.float(), k.float(), None), v.float(), g, beta, expected, tables.state_indices,
        tables.query_start_loc, tables.has_initial_state,
    )  # fmt: skip
    chunk_delta(q, k, v, g, beta, states, tables)
    return float((states - expected).norm() / expected.norm())


def test_many_rows_of_one_chunk() -> None:
    """More blocks than a card has multiprocessors, against the fallback."""
    rows = tuple((1 + n % 7, n, n, n % 3 > 0) for n in range(40))
    account(replace(BRIEF, rows=rows, slots=41, V=16), chunk_delta)
