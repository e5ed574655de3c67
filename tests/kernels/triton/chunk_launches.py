"""Launches of the recurrence in chunks as data, and how one is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import qk_norm

from ..launches import same_bits
from .plain_rows import UNWRITTEN, PlainRows
from .problems import Buffer

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


def account(launch: Launch, call: Callable[..., Tensor]) -> None:
    """One launch by `call`, which is given what `chunk_delta` is: near the fallback, and no other bit touched."""
    (q, k, v, g, beta), tables, states = launch.inputs(), launch.tables(), launch.states()
    T = int(tables.query_start_loc[-1])
    given = [x.clone() for x in (q, k, v, g, beta)]
    output = torch.full((T + launch.tail, launch.HV, launch.V), UNWRITTEN)
    before, expected = states.copy(), states.view.to(torch.float32, copy=True)
    options = {"state_order": launch.state_order, "pad_slot_id": launch.pad_slot_id}
    call(
        q, k, v, g, beta, states.view, tables, scale=launch.scale, qk_norm=launch.qk_norm, output=output,
        zero_pads=launch.zero_pads, **options,
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
