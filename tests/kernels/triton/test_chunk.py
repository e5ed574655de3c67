"""`chunk_delta` in the interpreter: the fallback's recurrence, and no other bit touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import qk_norm

from ..launches import same_bits
from .plain_rows import UNWRITTEN, PlainRows
from .problems import Buffer

if TYPE_CHECKING:
    from gdn_verify.kernels.triton.shape import Shape

pytest.importorskip("triton")
EXACT, HALF = 2e-5, 8e-3
"""Relative errors of a row's o and state, as norms: of float32 sums, and of operands rounded to bfloat16 (2^-8)."""


@dataclass(frozen=True)
class Launch(PlainRows):
    """A launch; g lies in [-decay, 0]."""

    H: int = 1
    ratio: int = 2
    K: int = 16
    V: int = 16
    dtype: torch.dtype = torch.float32
    pool: torch.dtype = torch.float32
    decay: float = 0.1
    alike: bool = False
    beta_scale: float = 1.0
    state_order: str = "VK"
    gap: int = 0
    qk_norm: bool = True
    scale: float | None = None
    zero_pads: bool = True
    exact: bool = False
    chunk: int | None = None
    segments: int = 1

    @property
    def HV(self) -> int:
        return self.H * self.ratio

    def inputs(self) -> tuple[Tensor, ...]:
        """q, k, v, g, beta of the rows' tokens, NaN behind them; keys nearly `alike` make the chunk's inverse grow."""
        make, T = torch.Generator().manual_seed(3), sum(row[0] for row in self.rows)

        def draw(*shape: int) -> Tensor:
            return torch.randn(T, *shape, generator=make)

        k = draw(self.H, self.K)
        k = 0.05 * k + torch.randn(1, self.H, self.K, generator=make) if self.alike else k
        beta = self.beta_scale * (torch.full((T, self.HV), 0.98) if self.alike else draw(self.HV).sigmoid())
        g = -self.decay * torch.rand(T, self.HV, generator=make)
        found = (draw(self.H, self.K).to(self.dtype), k.to(self.dtype), draw(self.HV, self.V).to(self.dtype), g, beta)
        return tuple(torch.cat([x, x.new_full((self.tail, *x.shape[1:]), torch.nan)]) for x in found)

    def states(self) -> Buffer:
        inner = (self.V, self.K) if self.state_order == "VK" else (self.K, self.V)
        made = Buffer.make((self.slots, self.HV, *inner), self.pool, gap=self.gap)
        make = torch.Generator().manual_seed(4)
        for slot in self.filled:
            made.view[slot] = 0.3 * torch.randn(self.HV, *inner, generator=make)
        return made


SHORT = Launch(((1, 3, 3, True), (0, 1, 1, True), (5, 0, 2, False), (3, -1, 7, True), (2, 4, 6, True)))
LONG = Launch(((64, 3, 3, True), (65, 1, 5, False), (1, 0, 2, True), (130, 4, 6, True), (0, 2, 0, False)))
OPTIONS = {
    "short": SHORT,
    "long": LONG,
    "no initial states": replace(LONG, rows=tuple((n, s, r, False) for n, s, r, _ in LONG.rows)),
    "all with states": replace(SHORT, known=False),
    "forgets everything": replace(LONG, decay=200.0),
    "forgets nothing": replace(LONG, decay=0.0),
    "keys alike": replace(LONG, alike=True, decay=1e-4),
    "keys alike, beta to 2": replace(LONG, alike=True, decay=0.0, beta_scale=2.0),
    "three heads to a key": replace(SHORT, H=2, ratio=3),
    "K below V": replace(LONG, K=8, V=40),
    "K above V": replace(SHORT, K=48, V=3),
    "KV": replace(LONG, state_order="KV", K=24),
    "gaps, tail": replace(SHORT, gap=5, tail=4),
    "untouched pads": replace(SHORT, tail=4, zero_pads=False),
    "int64, padding by an id": replace(SHORT, index=torch.int64, pad_slot_id=4),
    "read elsewhere": replace(LONG, reads=True),
    "given scale, no norm": replace(SHORT, scale=0.25, qk_norm=False, decay=1.0, beta_scale=0.02),
    "narrow pool": replace(LONG, pool=torch.bfloat16),
    "bfloat16": replace(LONG, dtype=torch.bfloat16),
    "bfloat16, keys alike": replace(LONG, dtype=torch.bfloat16, alike=True, decay=1e-4),
    "bfloat16, chunks of 64": replace(LONG, dtype=torch.bfloat16, chunk=64),
    "float32, chunks of 64": replace(LONG, alike=True, decay=1e-4, chunk=64),
    "float16": replace(LONG, dtype=torch.float16, pool=torch.float16),
    "bfloat16 in float32": replace(LONG, dtype=torch.bfloat16, exact=True),
}


def check(launch: Launch) -> None:
    """In the interpreter's process: one launch, accounted for."""
    from gdn_verify.kernels.triton.chunk import chunk_delta

    (q, k, v, g, beta), tables, states = launch.inputs(), launch.tables(), launch.states()
    T = int(tables.query_start_loc[-1])
    given = [x.clone() for x in (q, k, v, g, beta)]
    output = torch.full((T + launch.tail, launch.HV, launch.V), UNWRITTEN)
    before, expected = states.copy(), states.view.to(torch.float32, copy=True)
    options = {"state_order": launch.state_order, "pad_slot_id": launch.pad_slot_id}
    chunk_delta(
        q, k, v, g, beta, states.view, tables, scale=launch.scale, qk_norm=launch.qk_norm, output=output,
        zero_pads=launch.zero_pads, exact=launch.exact, shape=shape_of(launch), **options,
    )  # fmt: skip
    assert all(same_bits(a, b) for a, b in zip((q, k, v, g, beta), given, strict=True)), "an input was written"
    q_hat, k_hat = hats(q[:T], k[:T], launch)
    o = delta_rule(
        q_hat, k_hat, v[:T].float(), g[:T], beta[:T], expected, tables.state_indices, tables.query_start_loc,
        tables.has_initial_state, read_indices=tables.read_indices, **options,
    )  # fmt: skip
    half = launch.dtype != torch.float32 and not launch.exact
    assert_near(output[:T], o, tables, launch, HALF if half else EXACT)
    tail = output[T:]
    assert (tail == (0 if launch.zero_pads else UNWRITTEN)).all(), "tokens of no row"
    assert_states(states, before, expected, tables, launch, HALF if half or launch.pool != torch.float32 else EXACT)


def shape_of(launch: Launch) -> Shape:
    """The chip's own but for what the launch asks for; in the interpreter's process."""
    from gdn_verify.kernels.triton.shape import choose_shape
    from gdn_verify.kernels.triton.target import current_target

    exact = launch.exact or launch.dtype == torch.float32
    chosen = replace(choose_shape(current_target(), launch.K, exact), segments=launch.segments)
    return chosen if launch.chunk is None else replace(chosen, chunk=launch.chunk, scan_warps=4)


def hats(q: Tensor, k: Tensor, launch: Launch) -> tuple[Tensor, Tensor]:
    if launch.qk_norm:
        return qk_norm(q.float(), k.float(), launch.scale)
    return q.float() * launch.scale, k.float()


def live(tables: Tables, launch: Launch) -> list[tuple[int, int, int]]:
    """(first token, last token + 1, slot) of the live rows."""
    bounds = tables.query_start_loc.tolist()
    rows = zip(bounds, bounds[1:], tables.state_indices.tolist(), strict=False)
    return [r for r in rows if r[1] > r[0] and 0 <= r[2] < launch.slots and r[2] != launch.pad_slot_id]


def assert_near(actual: Tensor, expected: Tensor, tables: Tables, launch: Launch, tolerance: float) -> None:
    alive = torch.zeros(len(actual), dtype=torch.bool)
    for first, stop, slot in live(tables, launch):
        alive[first:stop] = True
        error = (actual[first:stop] - expected[first:stop]).norm() / expected[first:stop].norm()
        assert error < tolerance, f"o of the row in slot {slot}: relative error {error:.1e}"
    assert (actual[~alive] == (0 if launch.zero_pads else UNWRITTEN)).all(), "tokens of padded rows"


def assert_states(
    after: Buffer, before: Buffer, expected: Tensor, tables: Tables, launch: Launch, tolerance: float
) -> None:
    slots = [slot for _, _, slot in live(tables, launch)]
    for slot in slots:
        error = (after.view[slot].float() - expected[slot]).norm() / expected[slot].norm()
        assert error < tolerance, f"state of slot {slot}: relative error {error:.1e}"
    before.view[slots] = after.view[slots]
    assert same_bits(before.storage, after.storage), "the pool was written beyond its live slots"


@pytest.mark.parametrize("launch", OPTIONS.values(), ids=OPTIONS)
def test_the_recurrence_over_rows_of_any_length(interpreted, launch):
    """Rows shorter than a chunk, of one and of several, with each option."""
    interpreted(check, launch)


def defective(name: str) -> str | None:
    """In the interpreter's process: what is said of a launch 1 whose products are handed on wrong."""
    from gdn_verify.kernels.triton import chunk

    class Spoilt:
        def __getitem__(self, grid):
            def launch(*arguments, **options):
                kernel[grid](*arguments, **options)
                arguments[{"W": 5, "B": 6, "factors": 7}[name]][-2].mul_(1.1)

            return launch

    kernel, chunk.gdn_intra_kernel = chunk.gdn_intra_kernel, Spoilt()
    try:
        check(LONG)
    except AssertionError as error:
        return str(error)
    finally:
        chunk.gdn_intra_kernel = kernel
    return None


@pytest.mark.parametrize("name", ["W", "B", "factors"])
def test_a_wrong_product_of_one_chunk_is_found(interpreted, name):
    """In the last chunk but one."""
    assert "relative error" in interpreted(defective, name)


def check_refusals() -> list[str]:
    """In the interpreter's process: what is said of operands that do not fit."""
    from gdn_verify.kernels.triton.chunk import chunk_delta

    (q, k, v, g, beta), tables, pool = SHORT.inputs(), SHORT.tables(), SHORT.states().view
    said = []
    columns, learnt = v.mT.contiguous().mT, q.clone().requires_grad_()
    for found in ((q, k.bfloat16(), v), (q, k, columns), (learnt, k, v)):
        try:
            chunk_delta(*found, g, beta, pool, tables)
        except (ValueError, RuntimeError) as error:
            said.append(str(error))
    return said


def test_what_does_not_fit_is_refused(interpreted):
    """By name, with the way out."""
    dtype, strides, gradient = interpreted(check_refusals)
    assert dtype.startswith("k has dtype torch.bfloat16")
    assert strides.startswith("v has strides (32, 1, 2); the heads of a token must be contiguous")
    assert "requires a gradient" in gradient
