"""Laws of `chunk_delta` that need no reference: how launches over rows of any length are bound to each other.

A launch is cut into chunks from each row's first token on, so what happens to other rows, behind a token, or before a
chunk whose state is stored in float32, must not change a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels.rows import Tables

from ..launches import same_bits
from .planting import Edit, planted

pytest.importorskip("triton")
H, HV, K, V, SLOTS = 2, 4, 16, 24, 6
NEAR = {torch.float32: 1e-5, torch.bfloat16: 1.5e-2, torch.float16: 2e-3}
"""Relative errors of a launch, as norms: of float32 sums, and of operands rounded to a narrow type."""


@dataclass
class Sequence:
    """The operands of some tokens."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    beta: Tensor

    @classmethod
    def draw(cls, tokens: int, dtype: torch.dtype, seed: int = 0) -> Sequence:
        make = torch.Generator().manual_seed(seed)
        q, k = (torch.randn(tokens, H, K, generator=make).to(dtype) for _ in range(2))
        v = torch.randn(tokens, HV, V, generator=make).to(dtype)
        g, beta = -0.2 * torch.rand(tokens, HV, generator=make), torch.rand(tokens, HV, generator=make)
        return cls(q, k, v, g, beta)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.q, self.k, self.v, self.g, self.beta

    def __getitem__(self, tokens: slice | list[int]) -> Sequence:
        return Sequence(*(x[tokens] for x in self.tensors))

    def __add__(self, other: Sequence) -> Sequence:
        return Sequence(*(torch.cat(pair) for pair in zip(self.tensors, other.tensors, strict=True)))


def states(seed: int = 1) -> Tensor:
    return torch.randn(SLOTS, HV, V, K, generator=torch.Generator().manual_seed(seed))


def launch(
    given: Sequence, pool: Tensor, rows: list[tuple[int, int]], fresh: bool = False, state_order: str = "VK"
) -> Tensor:
    """The outputs of rows (length, slot); `pool` is updated."""
    from gdn_verify.kernels.triton.chunk import chunk_delta

    starts = torch.tensor([0, *(length for length, _ in rows)]).cumsum(0)
    known = torch.full((len(rows),), not fresh)
    tables = Tables(starts, torch.tensor([slot for _, slot in rows]), has_initial_state=known)
    return chunk_delta(*given.tensors, pool, tables, state_order=state_order)


def chunk_of(dtype: torch.dtype) -> int:
    """Tokens of a chunk, as the launches here are cut."""
    from gdn_verify.kernels.triton.shape import choose_shape
    from gdn_verify.kernels.triton.target import current_target

    return choose_shape(current_target(), K, dtype == torch.float32).chunk


def near(left: Tensor, right: Tensor, dtype: torch.dtype) -> bool:
    return bool((left.float() - right.float()).norm() < NEAR[dtype] * right.float().norm())


def repeated(dtype: torch.dtype) -> None:
    """The same launch gives the same bits."""
    C = chunk_of(dtype)
    given, pools = Sequence.draw(2 * C + 5, dtype), (states(), states())
    first, second = (launch(given, pool, [(C + 2, 3), (C + 3, 1)]) for pool in pools)
    assert same_bits(first, second)
    assert same_bits(*pools)


def causal(dtype: torch.dtype) -> None:
    """An edit of a token leaves the outputs before it bit-identical, in its own chunk too, and changes its own."""
    C = chunk_of(dtype)
    given = Sequence.draw(2 * C + 5, dtype)
    before = launch(given, states(), [(2 * C + 5, 0)])
    for edited in (0, 1, C - 1, C, C + 7, 2 * C, 2 * C + 4):
        other = Sequence(*(x.clone() for x in given.tensors))
        for x, size in zip(other.tensors, (3.0, 3.0, 100.0, -3.0, 0.5), strict=True):
            x[edited] += size
        after = launch(other, states(), [(2 * C + 5, 0)])
        assert same_bits(after[:edited], before[:edited])
        assert not torch.equal(after[edited], before[edited])


def split_at_chunks(dtype: torch.dtype) -> None:
    """[0, C) and then the rest is the whole row bit for bit: the state in between is in float32."""
    C = chunk_of(dtype)
    given, whole = Sequence.draw(3 * C + 5, dtype), states()
    expected = launch(given, whole, [(3 * C + 5, 2)])
    for cut in (C, 2 * C, 3 * C):
        parts = states()
        first = launch(given[:cut], parts, [(cut, 2)])
        second = launch(given[cut:], parts, [(3 * C + 5 - cut, 2)])
        assert same_bits(torch.cat([first, second]), expected)
        assert same_bits(parts, whole)


def split_elsewhere(dtype: torch.dtype) -> None:
    """Anywhere else within rounding, also token by token: a row of one token is a decode."""
    C = chunk_of(dtype)
    length = C + 6
    given, whole = Sequence.draw(length, dtype), states()
    expected = launch(given, whole, [(length, 2)])
    for cuts in ([1], [7], [C - 1], [C + 1], [length - 1], list(range(1, length))):
        parts, bounds = states(), [0, *cuts, length]
        made = [launch(given[a:b], parts, [(b - a, 2)]) for a, b in pairwise(bounds)]
        assert near(torch.cat(made), expected, dtype)
        assert near(parts, whole, dtype)


def packed(dtype: torch.dtype) -> None:
    """A row alone is the row in any batch, in any place: bit for bit."""
    C = chunk_of(dtype)
    row, alone = Sequence.draw(C + 5, dtype), states()
    expected = launch(row, alone, [(C + 5, 4)])
    for before, after in (([], [(3, 1)]), ([(1, 0)], []), ([(2 * C, 0), (0, 2), (7, -1)], [(C - 1, 1)])):
        pool, rows = states(), [*before, (C + 5, 4), *after]
        first, rest = sum(n for n, _ in before), sum(n for n, _ in after)
        given = Sequence.draw(first, dtype, 8) + row + Sequence.draw(rest, dtype, 9)
        assert same_bits(launch(given, pool, rows)[first : first + C + 5], expected)
        assert same_bits(pool[4], alone[4])


def homogeneous(dtype: torch.dtype) -> None:
    """Powers of two and signs of v and the states pass through bit for bit, the sign of q into the output alone.

    But for underflow: float16 holds no number below 2⁻¹⁴ in full.
    """
    length = chunk_of(dtype) + 5
    given, pool = Sequence.draw(length, dtype), states()
    o = launch(given, pool, [(length, 1)])
    for factor in (-1.0,) if dtype == torch.float16 else (2.0, 2.0**-3, -1.0):
        scaled = states() * factor
        assert torch.equal(launch(replace(given, v=given.v * factor), scaled, [(length, 1)]), o * factor)
        assert torch.equal(scaled, pool * factor)
    same = states()
    assert torch.equal(launch(replace(given, q=-given.q), same, [(length, 1)]), -o)
    assert same_bits(same, pool)


def additive(dtype: torch.dtype) -> None:
    """What v gives and what the initial state gives add up, within rounding."""
    length = chunk_of(dtype) + 5
    given, pool, first, second = Sequence.draw(length, dtype), states(), states(), torch.zeros_like(states())
    o = launch(given, pool, [(length, 1)])
    nothing = replace(given, v=torch.zeros_like(given.v))
    assert near(launch(nothing, first, [(length, 1)]).float() + launch(given, second, [(length, 1)]).float(), o, dtype)
    assert near(first[1] + second[1], pool[1], dtype)


def limits(dtype: torch.dtype) -> None:
    """g ≤ -200 forgets the state bit for bit, also within a chunk; with β = 0 and g = 0 it stays as it is."""
    C = chunk_of(dtype)
    given = Sequence.draw(C + 9, dtype)
    for at in (0, 5, C, C + 8):
        g = given.g.clone()
        g[at] = -200.0
        forgets, pools = replace(given, g=g), (states(), states(7))
        left, right = (launch(forgets, pool, [(C + 9, 1)]) for pool in pools)
        assert torch.equal(left[at:], right[at:])
        assert torch.equal(pools[0][1], pools[1][1])
    nothing, kept = torch.zeros_like(given.g), states()
    launch(replace(given, g=nothing, beta=nothing), kept, [(C + 9, 1)])
    assert same_bits(kept, states())


def transposed(dtype: torch.dtype) -> None:
    """Both state orders hold the same bits."""
    length = chunk_of(dtype) + 5
    given, pool = Sequence.draw(length, dtype), states()
    other = pool.transpose(-1, -2).contiguous()
    o = launch(given, pool, [(length, 1)])
    assert same_bits(o, launch(given, other, [(length, 1)], state_order="KV"))
    assert same_bits(pool, other.transpose(-1, -2))


def sharded(dtype: torch.dtype) -> None:
    """Each key head with its value heads, computed alone, gives its part of the whole."""
    length, r = chunk_of(dtype) + 5, HV // H
    given, pool = Sequence.draw(length, dtype), states()
    whole = launch(given, pool, [(length, 1)])
    for i in range(H):
        one, own, part = slice(i, i + 1), slice(i * r, (i + 1) * r), states()[:, i * r : (i + 1) * r].contiguous()
        keys, values = (given.q[:, one], given.k[:, one]), (x[:, own] for x in (given.v, given.g, given.beta))
        shard = Sequence(*(x.contiguous() for x in (*keys, *values)))
        assert same_bits(launch(shard, part, [(length, 1)]), whole[:, own])
        assert same_bits(part, pool[:, own])


LAWS: tuple[Callable[[torch.dtype], None], ...] = (
    repeated, causal, split_at_chunks, split_elsewhere, packed, homogeneous, additive, limits, transposed, sharded,
)  # fmt: skip


@pytest.mark.parametrize("dtype", NEAR, ids=str)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_law_holds(interpreted, law, dtype):
    """Each for float32 operands and for both narrow types, over more than one chunk."""
    interpreted(law, dtype)


def scaled(dtype: torch.dtype) -> None:
    """A power of two in the scale of q is one in the output, bit for bit, and none in the state."""
    from gdn_verify.kernels.triton.chunk import chunk_delta

    tables = Tables(torch.tensor([0, 40]), torch.tensor([1]))
    made = []
    for scale in (1.0, 2.0**40, 2.0**-40):
        pool = states()
        made.append((chunk_delta(*Sequence.draw(40, dtype).tensors, pool, tables, scale=scale) / scale, pool))
    assert all(same_bits(o, made[0][0]) and same_bits(pool, made[0][1]) for o, pool in made[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_scale_is_heeded(interpreted, dtype):
    """The contract: a given one is used as given; of types whose range holds the output."""
    interpreted(scaled, dtype)


BROKEN = [
    (causal, Edit("a token sees the next one", "intra_kernel.py", "i[:, None] >= i[None, :], within",
                  "i[:, None] + 1 >= i[None, :], within")),
    (split_at_chunks, Edit("a state is read in bfloat16", "scan_kernel.py", "other=0).to(tl.float32)",
                           "other=0).to(tl.bfloat16).to(tl.float32)")),
    (split_elsewhere, Edit("the state is decayed when it is read", "scan_kernel.py", "other=0).to(tl.float32)",
                           "other=0).to(tl.float32) * 0.95")),
    (packed, Edit("a row takes the next one's blocks", "scan_kernel.py", "first // C + row",
                  "(first + C - 1) // C + row")),
    (homogeneous, Edit("v is not 0", "scan_kernel.py", "fresh = values.to(tl.float32)",
                       "fresh = values.to(tl.float32) + 0.1")),
    (additive, Edit("v is not 0", "scan_kernel.py", "fresh = values.to(tl.float32)",
                    "fresh = values.to(tl.float32) + 0.1")),
    (limits, Edit("decays are bounded", "intra_kernel.py", "tl.exp2(G.to(tl.float32))",
                  "tl.exp2(tl.maximum(G.to(tl.float32), -5.0))")),
    (transposed, Edit("the strides of K×V", "chunk_state.py", "V if STATE_KV else 1", "K if STATE_KV else 1")),
    (sharded, Edit("value head j reads key head j % H", "intra_kernel.py", "head // (HV // H)", "head % H")),
]  # fmt: skip


def broken(law: Callable[[torch.dtype], None], edit: Edit) -> bool:
    """In the interpreter's process: whether the law is broken by kernels with this edit."""
    with planted(edit):
        try:
            law(torch.float32)
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize(("law", "edit"), BROKEN, ids=lambda what: getattr(what, "__name__", str(what)))
def test_a_defect_breaks_its_law(interpreted, law, edit):
    """A law that holds for any kernel would say nothing."""
    assert interpreted(broken, law, edit)


def split_convolution(W: int) -> None:
    """[0, t) and then [t, L) equals [0, L) bit for bit: what lies in between is a copy of inputs."""
    from gdn_verify.kernels.fallback import Layer
    from gdn_verify.kernels.triton.conv_prefill import conv_prefill

    make, D = torch.Generator().manual_seed(W), 2 * H * K + HV * V
    layer = Layer(H, HV, K, V, torch.randn(D, W, generator=make), torch.zeros(HV), torch.zeros(HV))
    x, before = torch.randn(40, D, generator=make), torch.randn(3, D, W - 1, generator=make)

    def convolve(tokens: slice, pool: Tensor) -> Tensor:
        given = x[tokens]
        tables = Tables(torch.tensor([0, len(given)]), torch.tensor([1]))
        return conv_prefill(given, layer, pool, tables, packing=None)

    whole = before.clone()
    expected = convolve(slice(0, 40), whole)
    for cut in (1, 2, 15, 16, 17, 32, 39):
        parts = before.clone()
        made = [convolve(slice(0, cut), parts), convolve(slice(cut, 40), parts)]
        assert same_bits(torch.cat(made), expected)
        assert same_bits(parts, whole)


@pytest.mark.parametrize("W", [2, 4, 5])
def test_a_convolution_can_be_split_anywhere(interpreted, W):
    """At a block of tokens and elsewhere, also behind fewer tokens than the history holds."""
    interpreted(split_convolution, W)
