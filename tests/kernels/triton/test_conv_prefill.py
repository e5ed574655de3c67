"""`conv_prefill` in the interpreter: the fallback's convolution, and no other bit touched."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels.conv import causal_conv
from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.stages import unpack

from ..checking import assert_rounded, wide
from ..launches import same_bits
from .plain_rows import UNWRITTEN, PlainRows
from .problems import Buffer

pytest.importorskip("triton")


@dataclass(frozen=True)
class Rows(PlainRows):
    """A launch."""

    H: int = 1
    ratio: int = 2
    K: int = 8
    V: int = 12
    W: int = 4
    packing: str | None = "flat"
    dtype: torch.dtype = torch.float32
    pool: torch.dtype = torch.float32
    bias: bool = False
    activation: str | None = "silu"
    inside: bool = True
    spare: int = 0
    gap: int = 0

    @property
    def D(self) -> int:
        return 2 * self.H * self.K + self.H * self.ratio * self.V

    def layer(self) -> Layer:
        make, HV = torch.Generator().manual_seed(1), self.H * self.ratio
        weight = torch.randn(self.D, self.W, generator=make).to(self.dtype)
        bias = torch.randn(self.D, generator=make).to(self.dtype) if self.bias else None
        zeros = torch.zeros(HV)
        return Layer(self.H, HV, self.K, self.V, weight, zeros, zeros, conv_bias=bias, conv_activation=self.activation)

    def conv_pool(self) -> Buffer:
        columns = self.W - 1 + self.spare
        made = Buffer.make((self.slots, self.D, columns), self.pool, gap=self.gap, swap=not self.inside)
        for slot in self.filled:
            made.view[slot, :, : self.W - 1] = torch.randn(self.D, self.W - 1, generator=GENERATOR)
        return made


GENERATOR = torch.Generator().manual_seed(7)
MANY = Rows(
    tuple(
        (length, slot, 11 - slot, known)
        for slot, (length, known) in enumerate([(0, True), (1, True), (2, False), (3, True), (5, False), (17, True)])
    )
)
LONG = Rows(((33, 3, 3, True), (1, -1, 2, True), (16, 5, 5, False), (0, 1, 1, False), (40, 0, 0, True)))
OPTIONS = {
    "plain": MANY,
    "long rows, padding": LONG,
    "interleaved, two key heads": replace(LONG, H=2, packing="interleaved"),
    "the conv's input alone": replace(LONG, packing=None, ratio=3),
    "bias, no activation": replace(MANY, bias=True, activation=None),
    "bfloat16": replace(LONG, dtype=torch.bfloat16, pool=torch.bfloat16),
    "pool of another type": replace(MANY, dtype=torch.bfloat16),
    "pool narrower than its inputs": replace(LONG, pool=torch.float16),
    "channels side by side, spare columns": replace(LONG, inside=False, spare=3, gap=5),
    "columns side by side, spare columns": replace(MANY, spare=2, gap=3),
    "two taps": replace(MANY, W=2),
    "seven taps": replace(MANY, W=7, spare=1),
    "tokens of nobody": replace(MANY, tail=5),
    "all have a state": replace(MANY, known=False),
    "read elsewhere": replace(MANY, reads=True),
    "int64, padding by an id": replace(LONG, index=torch.int64, pad_slot_id=5),
    "one row": Rows(((3, 2, 2, True),)),
    "wide heads": replace(LONG, H=2, K=48, V=40),
}


def check(rows: Rows) -> None:
    """In the interpreter's process: one launch, accounted for."""
    from gdn_verify.kernels.triton.conv_prefill import conv_prefill

    layer, tables, pool = rows.layer(), rows.tables(), rows.conv_pool()
    T = int(tables.query_start_loc[-1])
    x = torch.full((T + rows.tail, rows.D + (0 if rows.packing is None else layer.num_v_heads * rows.V)), torch.nan)
    x[:T] = torch.randn(T, x.shape[1], generator=GENERATOR)
    x = x.to(rows.dtype)
    output = torch.full((T + rows.tail, rows.D), UNWRITTEN, dtype=rows.dtype)
    expected, before = pool.copy(), x.clone()
    conv_prefill(x, layer, pool.view, tables, packing=rows.packing, pad_slot_id=rows.pad_slot_id, output=output)
    y = causal_conv(
        mixed(x, layer, rows.packing).float(), layer.conv_weight, layer.conv_bias, expected.view,
        tables.state_indices, tables.query_start_loc, tables.has_initial_state, read_indices=tables.read_indices,
        activation=layer.conv_activation, pad_slot_id=rows.pad_slot_id,
    )  # fmt: skip
    assert_rounded(output[:T], wide(y[:T]), "conv", floor=1.0)
    assert (output[T:] == UNWRITTEN).all(), "tokens of no row were written"
    assert same_bits(pool.storage, expected.storage), "conv pool"
    assert same_bits(x, before), "the input was written"


def mixed(x: Tensor, layer: Layer, packing: str | None) -> Tensor:
    """The conv's input [T, D] of a packed projection."""
    if packing is None:
        return x
    return unpack(x, x.new_zeros(len(x), 2 * layer.num_v_heads), *layer.geometry, packing)[0]


@pytest.mark.parametrize("rows", OPTIONS.values(), ids=OPTIONS)
def test_the_convolution_of_rows_of_any_length(interpreted, rows):
    """Each option, over rows without tokens, shorter than the window, and over several blocks."""
    interpreted(check, rows)


def check_refusals() -> list[str]:
    """In the interpreter's process: what is said of operands that do not fit."""
    from gdn_verify.kernels.triton.conv_prefill import conv_prefill

    said, tables = [], MANY.tables()
    drafts = replace(tables, num_accepted_tokens=torch.ones(tables.rows, dtype=torch.int32))
    for rows, table in ((MANY, drafts), (replace(MANY, W=17), tables)):
        x = torch.zeros(28, rows.D + 24)
        try:
            conv_prefill(x, rows.layer(), rows.conv_pool().view, table)
        except ValueError as error:
            said.append(str(error))
    return said


def test_what_does_not_fit_is_refused(interpreted):
    """By name, with the way out."""
    assert interpreted(check_refusals) == [
        "num_accepted_tokens is given; speculative rows go to fused_spec_decode",
        "conv_weight has width W=17; at most 16 are taken",
    ]
