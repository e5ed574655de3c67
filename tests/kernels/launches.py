"""Random launches: structure drawn by Hypothesis, values from a drawn seed, everything irrelevant NaN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from gdn_verify.kernels.fallback import Layer, gated_delta_net_packed
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.tables import Row, build_tables

from . import reference

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
KINDS = ("decode", "prefill", "spec")


def bits(x: Tensor) -> Tensor:
    """The bytes of a tensor: equal NaNs are equal, 0.0 and -0.0 are not."""
    # A copy: a tensor of one element counts as contiguous whatever its strides, and keeps them.
    return x.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8)


def same_bits(x: Tensor, y: Tensor) -> bool:
    return (x.dtype, x.shape) == (y.dtype, y.shape) and torch.equal(bits(x), bits(y))


@dataclass(repr=False)  # its tensors would fill pages of a report
class Launch:
    """One launch, ready to run: its rows, layer, inputs and pools (views of `storage`)."""

    rows: list[Row]
    layer: Layer
    tables: Tables
    qkvz: Tensor
    ba: Tensor
    conv_pool: Tensor
    pool: Tensor
    storage: tuple[Tensor, Tensor]
    packing: str = "flat"
    state_order: str = "VK"
    pad_slot_id: int | None = None
    stages: dict[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        layout = f"{self.packing}, {self.state_order}, pad {self.pad_slot_id}"
        return f"Launch({self.rows}, {self.layer.geometry}, {self.qkvz.dtype}, {self.pool.dtype}, {layout})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # else Hypothesis prints the fields of a dataclass

    @property
    def live(self) -> list[reference.Where]:
        return reference.live_rows(self.rows, self.pool.shape[0], self.pad_slot_id)

    def run(self) -> tuple[Tensor, Tensor]:
        """(out, z); the pools and `stages` are updated."""
        return gated_delta_net_packed(
            self.qkvz,
            self.ba,
            self.layer,
            self.conv_pool,
            self.pool,
            self.tables,
            packing=self.packing,
            state_order=self.state_order,
            pad_slot_id=self.pad_slot_id,
            stages=self.stages,
        )


def strided(shape: tuple[int, ...], dtype: torch.dtype, gap: int, swap: bool) -> tuple[Tensor, Tensor]:
    """(view, storage): a NaN-filled pool with `gap` elements between slots, its last two axes swapped or not."""
    inner = (*shape[1:-2], shape[-1], shape[-2]) if swap else shape[1:]
    size = int(torch.Size(inner).numel())
    storage = torch.full((shape[0], size + gap), float("nan"), dtype=dtype)
    view = storage[:, :size].unflatten(1, inner)
    return (view.transpose(-1, -2) if swap else view), storage


@st.composite
def row_lists(draw, kinds: tuple[str, ...], num_spec: int, pad_slot_id: int | None) -> tuple[list[Row], int]:
    """(rows, P): rows with pairwise distinct write slots, sentinels of every sort among them.

    Shrinks to fewer rows, shorter rows, no sentinels.
    """
    chosen = draw(st.lists(st.sampled_from((*kinds, "padded", "empty")), max_size=5))
    needed = sum(1 + num_spec + 1 for _ in chosen) + 1
    free = [s for s in draw(st.permutations(range(needed))) if s != pad_slot_id]
    sentinels = [-1, -9, needed, needed + 5] + ([] if pad_slot_id is None else [pad_slot_id])
    sentinel = st.sampled_from(sentinels)

    def row(kind: str) -> Row:
        if kind == "padded":
            return Row(draw(st.integers(1, 2)), (draw(sentinel),))
        fresh = draw(st.booleans())
        if kind == "empty":
            return Row(0, (free.pop(),), fresh=fresh)
        if kind == "decode":
            return Row(1, (free.pop(),))
        if kind == "prefill":
            read = draw(st.sampled_from([None, free.pop(), draw(sentinel)]))
            return Row(draw(st.integers(1, 7)), (free.pop(),), fresh=fresh, read_slot=read)
        slots = [draw(sentinel) if draw(st.integers(0, 7)) == 7 else free.pop() for _ in range(num_spec + 1)]
        length, accepted = draw(st.integers(0, num_spec + 1)), draw(st.integers(1, num_spec + 1))
        return Row(length, tuple(slots), accepted=accepted)

    return [row(kind) for kind in chosen], needed


@st.composite
def launches(draw, kinds: tuple[str, ...] = KINDS, dtype: torch.dtype | None = None) -> Launch:
    """A launch of rows of these kinds in random geometry, packing, layout, dtypes; `dtype` fixes all dtypes."""
    H, r = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 4]))
    K, V, W = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(2, 5))
    num_spec = draw(st.integers(0, 3)) if "spec" in kinds else 0
    pad_slot_id = draw(st.sampled_from([None, 0]))
    rows, slots = draw(row_lists(kinds, num_spec, pad_slot_id))
    activations, pools, convs = (dtype or draw(st.sampled_from(FLOATS)) for _ in range(3))
    convs = activations if draw(st.booleans()) else convs
    make = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=make).to(dtype)

    D, HV = 2 * H * K + r * H * V, r * H
    layer = Layer(
        H,
        HV,
        K,
        V,
        conv_weight=normal(D, W, dtype=activations),
        conv_bias=draw(st.sampled_from([None, normal(D, dtype=activations)])),
        A_log=normal(HV),
        dt_bias=normal(HV, dtype=activations),
        norm_weight=normal(V, dtype=activations),
        conv_activation=draw(st.sampled_from(["silu", None])),
        norm_activation=draw(st.sampled_from(["silu", "sigmoid"])),
        beta_scale=draw(st.sampled_from([1.0, 2.0])),
        scale=draw(st.sampled_from([None, 1.0, 0.25])),
    )
    order, gap = draw(st.sampled_from(["VK", "KV"])), draw(st.sampled_from([0, 3]))
    conv_pool, conv_storage = strided((slots, D, W - 1 + num_spec), convs, gap, draw(st.booleans()))
    pool, storage = strided((slots, HV, *((V, K) if order == "VK" else (K, V))), pools, gap, False)
    tokens = sum(row.length for row in rows) + draw(st.integers(0, 2))
    launch = Launch(
        rows,
        layer,
        build_tables(
            rows,
            width=num_spec + 1 if "spec" in kinds else None,
            dtype=draw(st.sampled_from([torch.int32, torch.int64])),
        ),
        torch.full((tokens, D + HV * V), float("nan"), dtype=activations),
        torch.full((tokens, 2 * HV), float("nan"), dtype=activations),
        conv_pool,
        pool,
        (conv_storage, storage),
        draw(st.sampled_from(["flat", "interleaved"])),
        order,
        pad_slot_id,
    )
    fill(launch, make, size=draw(st.sampled_from([1.0, 1e-3])))
    return launch


def fill(launch: Launch, make: torch.Generator, size: float) -> None:
    """Gives numbers to what live rows may read, and to nothing else; inputs and conv states are of this size."""
    past = launch.layer.conv_weight.shape[1] - 1
    for row in launch.live:
        for x in (launch.qkvz, launch.ba):
            live = x[row.start : row.start + row.length]
            live.copy_(torch.randn(live.shape, generator=make) * size)
        if row.conv_read is not None:
            history = launch.conv_pool[row.conv_read, :, row.first_column : row.first_column + past]
            history.copy_(torch.randn(history.shape, generator=make) * size)
        if row.read is not None:
            launch.pool[row.read] = torch.randn(launch.pool.shape[1:], generator=make)
