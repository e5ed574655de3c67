"""One launch of a kernel of ours as data: what it is given, in guarded memory, and what the fallback makes of it.

Every buffer lies in a storage of its own that is NaN wherever a launch must not look, and every bit of every storage is
accounted for afterwards. The kernels round o and the conv's output nowhere, so the fallback runs on float32 copies of
the inputs: then it rounds nowhere either.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from gdn_verify.kernels import fallback
from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.tables import Row, build_tables

from ..reference import Where, live_rows

PADDING = -1
UNWRITTEN = 77.0
"""What outputs hold before a launch: neither a zero nor the NaN of inputs that are passed through."""


def one_each(*slots: int) -> tuple[Row, ...]:
    """Decode rows: one token each."""
    return tuple(Row(1, (slot,)) for slot in slots)


def draft(length: int, accepted: int, *slots: int) -> Row:
    """A speculative row."""
    return Row(length, slots, accepted=accepted)


@dataclass(frozen=True)
class Buffer:
    """A tensor inside a storage of its own, which holds `gap` more elements after each of its first dimension."""

    storage: Tensor
    view: Tensor

    @classmethod
    def make(
        cls, shape: tuple[int, ...], dtype: torch.dtype, *, gap: int = 0, shift: int = 0, swap: bool = False,
        fill: float = float("nan"),
    ) -> Buffer:  # fmt: skip
        """All `fill`, `shift` elements after an aligned address, the last two dimensions swapped in memory or not."""
        inner = (*shape[1:-2], shape[-1], shape[-2]) if swap else shape[1:]
        size = int(torch.Size(inner).numel()) + gap
        storage = torch.full((shift + shape[0] * size + 8,), fill, dtype=dtype)
        strides = (size, *torch.empty(inner, device="meta").stride())
        view = storage.as_strided((shape[0], *inner), strides, shift)
        return cls(storage, view.transpose(-1, -2) if swap else view)

    def copy(self, device: torch.device | str | None = None) -> Buffer:
        """The same bits in the same layout, elsewhere."""
        storage = self.storage.to(device=device or self.storage.device, copy=True)
        view = self.view
        return Buffer(storage, storage.as_strided(view.shape, view.stride(), view.storage_offset()))

    def restore(self, before: Buffer) -> None:
        """Takes over all bits of a copy."""
        self.storage.copy_(before.storage)


@dataclass(frozen=True)
class Buffers:
    """The tensors of one launch; `layer` and the index tensors are inputs too."""

    qkvz: Buffer
    ba: Buffer
    conv_pool: Buffer
    pool: Buffer
    output: Buffer
    z_output: Buffer
    layer: Layer
    tables: Tables
    query_start_loc: Tensor | None

    @property
    def memory(self) -> dict[str, Buffer]:
        """The buffers by name."""
        return {name: x for name, x in vars(self).items() if isinstance(x, Buffer)}

    def copy(self, device: torch.device | str | None = None) -> Buffers:
        """A copy of everything, on this device or another one."""
        found = {name: buffer.copy(device) for name, buffer in self.memory.items()}
        starts = None if self.query_start_loc is None else moved(self.query_start_loc, device)
        return replace(
            self, layer=_moved(self.layer, device), tables=_moved(self.tables, device), query_start_loc=starts, **found
        )

    def restore(self, before: Buffers) -> None:
        """Takes over all bits of a copy, buffers and tables."""
        for name, buffer in self.memory.items():
            buffer.restore(getattr(before, name))
        for name, indices in vars(self.tables).items():
            if indices is not None:
                indices.copy_(getattr(before.tables, name))
        if self.query_start_loc is not None:
            self.query_start_loc.copy_(before.query_start_loc)


def moved(x: Tensor, device: torch.device | str | None) -> Tensor:
    """A copy that keeps its strides and its place in its storage, so its alignment."""
    storage = x.new_empty(0).set_(x.untyped_storage()).to(device=device or x.device, copy=True)
    return storage.as_strided(x.shape, x.stride(), x.storage_offset())


def _moved(record, device: torch.device | str | None):
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    return replace(record, **{name: moved(x, device) for name, x in found.items() if isinstance(x, Tensor)})


@dataclass(frozen=True)
class Problem:
    """A launch without its numbers; the defaults are ordinary decode rows in float32.

    `width` is S of a speculative launch, None for decode; `tokens` is T where that is not what the rows have;
    `looked_at` is `spec_rows`. `gap` elements follow each token and each slot in memory; every buffer begins `shift`
    elements after an aligned address. Without `starts` no query_start_loc is given.
    """

    rows: tuple[Row, ...] = one_each(3, PADDING, 7, 1)
    H: int = 2
    ratio: int = 2
    K: int = 8
    V: int = 8
    W: int = 4
    slots: int = 9
    width: int | None = None
    tokens: int | None = None
    looked_at: tuple[bool, ...] | None = None
    starts: bool = False
    packing: str = "flat"
    state_order: str = "VK"
    pad_slot_id: int | None = None
    zero_pads: bool = True
    activations: torch.dtype = torch.float32
    state: torch.dtype = torch.float32
    conv: torch.dtype = torch.float32
    result: torch.dtype | None = None
    bias: bool = False
    conv_activation: str | None = "silu"
    norm: str | None = "silu"
    scale: float | None = None
    beta_scale: float = 1.0
    index: torch.dtype = torch.int32
    strided_index: bool = False
    gap: int = 0
    shift: int = 0
    conv_columns_inside: bool = True
    spare: int = 0
    seed: int = 0

    @property
    def HV(self) -> int:
        return self.H * self.ratio

    @property
    def D(self) -> int:
        return 2 * self.H * self.K + self.HV * self.V

    @property
    def num_tokens(self) -> int:
        """T."""
        return sum(row.length for row in self.rows) if self.tokens is None else self.tokens

    @cached_property
    def starts_of_rows(self) -> list[int]:
        """The first token of each row."""
        return list(accumulate((row.length for row in self.rows), initial=0))[:-1]

    @cached_property
    def seen(self) -> tuple[Row, ...]:
        """The rows as the contract sees them: padding instead of what is no row of this kind of launch."""

        def legal(number: int, row: Row) -> bool:
            if self.starts_of_rows[number] + row.length > self.num_tokens:
                return False
            if self.width is None:
                return row.length <= 1
            counted = row.accepted is not None and 1 <= row.accepted <= self.width
            return counted and row.length <= self.width and self._looks_at(number)

        def padded(number: int, row: Row) -> Row:
            room = max(0, self.num_tokens - self.starts_of_rows[number])
            return Row(min(row.length, room), (PADDING,), accepted=None if self.width is None else 1)

        return tuple(row if legal(n, row) else padded(n, row) for n, row in enumerate(self.rows))

    @cached_property
    def live(self) -> list[Where]:
        """Where the live rows are."""
        return live_rows([self._filled(row) for row in self.seen], self.slots, self.pad_slot_id)

    @cached_property
    def live_tokens(self) -> list[int]:
        return [t for row in self.live for t in range(row.start, row.start + row.length)]

    @cached_property
    def passed_over(self) -> list[int]:
        """Tokens whose outputs keep their bytes: of rows that are no business of this launch."""
        found = []
        for number, row in enumerate(self.rows):
            longer = self.width is None and row.length > 1 and self._is_slot(row.slots[0])
            if longer or not self._looks_at(number):
                start = self.starts_of_rows[number]
                found += range(start, min(start + row.length, self.num_tokens))
        return found

    @cached_property
    def written(self) -> list[int]:
        """Slots of the state pool that change."""
        return sorted({slot for row in self.live for slot in row.writes.values()})

    def _looks_at(self, number: int) -> bool:
        return self.looked_at is None or self.looked_at[number]

    def _is_slot(self, slot: int) -> bool:
        return 0 <= slot < self.slots and slot != self.pad_slot_id

    def _filled(self, row: Row) -> Row:
        return replace(row, slots=row.slots + (PADDING,) * ((self.width or 1) - len(row.slots)))

    def buffers(self, device: torch.device | str = "cpu") -> Buffers:
        """The launch in memory: numbers where a live row reads, NaN elsewhere."""
        make = torch.Generator().manual_seed(self.seed)
        T, HV, V, inner = self.num_tokens, self.HV, self.V, (self.V, self.K)
        place = {"gap": self.gap, "shift": self.shift}
        columns = self.W - 2 + (self.width or 1) + self.spare
        made = Buffers(
            qkvz=Buffer.make((T, self.D + HV * V), self.activations, **place),
            ba=Buffer.make((T, 2 * HV), self.activations, **place),
            conv_pool=Buffer.make((self.slots, self.D, columns), self.conv, **place, swap=not self.conv_columns_inside),
            pool=Buffer.make(
                (self.slots, HV, *(inner if self.state_order == "VK" else inner[::-1])), self.state, **place
            ),
            output=Buffer.make((T, HV, V), self.result or self.activations, **place, fill=UNWRITTEN),
            z_output=Buffer.make((T, HV, V), self.activations, **place, fill=UNWRITTEN),
            layer=self._layer(make),
            tables=self.tables_of(self.rows),
            query_start_loc=None,
        )
        self._fill(made, make)
        starts = made.tables.query_start_loc if self.starts or self.width else None
        return replace(made, query_start_loc=starts).copy(device)

    def _layer(self, make: torch.Generator) -> Layer:
        def parameter(*shape: int, dtype: torch.dtype = self.activations) -> Tensor:
            storage = torch.randn(self.shift + int(torch.Size(shape).numel()), generator=make).to(dtype)
            return storage[self.shift :].view(shape)

        return Layer(
            self.H, self.HV, self.K, self.V,
            conv_weight=parameter(self.D, self.W),
            A_log=parameter(self.HV, dtype=torch.float32),
            dt_bias=parameter(self.HV),
            conv_bias=parameter(self.D) if self.bias else None,
            norm_weight=parameter(self.V) if self.norm else None,
            conv_activation=self.conv_activation,
            norm_activation=self.norm or "silu",
            scale=self.scale,
            beta_scale=self.beta_scale,
        )  # fmt: skip

    def tables_of(self, rows: tuple[Row, ...]) -> Tables:
        """The index tensors of a launch of these rows."""
        tables = build_tables(rows, width=self.width, dtype=self.index)
        if self.strided_index:
            indices = tables.state_indices
            spread = indices.new_full([2 * n for n in indices.shape], 2**30)
            slots = spread[tuple(slice(None, None, 2) for _ in indices.shape)]
            tables = replace(tables, state_indices=slots.copy_(indices))
        tables = replace(tables, spec_rows=None if self.looked_at is None else torch.tensor(self.looked_at))
        if tables.num_accepted_tokens is not None:  # illegal counts too
            tables.num_accepted_tokens.copy_(torch.tensor([row.accepted for row in rows], dtype=self.index))
        return tables

    def _fill(self, made: Buffers, make: torch.Generator) -> None:
        def draw(x: Tensor) -> None:
            x.copy_(torch.randn(x.shape, generator=make))

        for row in self.live:
            tokens = slice(row.start, row.start + row.length)
            draw(made.qkvz.view[tokens])
            draw(made.ba.view[tokens])
            assert row.conv_read is not None
            assert row.read is not None
            draw(made.conv_pool.view[row.conv_read, :, row.first_column : row.first_column + self.W - 1])
            draw(made.pool.view[row.read])

    def reference(self, before: Buffers) -> Buffers:
        """What the fallback leaves of these buffers, o, out and states in float32; on the processor."""
        left = before.copy("cpu")
        rows = tuple(self._filled(row) for row in self.seen)
        tables = replace(self.tables_of(rows), spec_rows=None)
        pool, layer = left.pool.view.float(), left.layer
        output, _ = fallback.gated_delta_net_packed(
            left.qkvz.view.float(), left.ba.view.float(), layer, left.conv_pool.view, pool, tables,
            packing=self.packing, state_order=self.state_order, pad_slot_id=self.pad_slot_id,
        )  # fmt: skip
        return replace(left, pool=Buffer(pool, pool), output=Buffer(output, output))


RATIOS = (1, 2, 3, 4, 6, 8)
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
KNOBS = {
    "H": (1, 2, 3),
    "ratio": RATIOS,
    "K": (1, 4, 7, 8, 12),
    "V": (1, 3, 8, 10),
    "W": (2, 3, 4, 5),
    "starts": (False, True),
    "packing": ("flat", "interleaved"),
    "state_order": ("VK", "KV"),
    "pad_slot_id": (None, 3),
    "zero_pads": (True, False),
    "activations": FLOATS,
    "state": FLOATS,
    "conv": FLOATS,
    "result": (None, *FLOATS),
    "bias": (False, True),
    "conv_activation": ("silu", None),
    "norm": ("silu", "sigmoid", None),
    "scale": (None, 0.5),
    "beta_scale": (1.0, 2.0),
    "index": (torch.int32, torch.int64),
    "strided_index": (False, True),
    "gap": (0, 6),
    "shift": (0, 2),
    "conv_columns_inside": (True, False),
    "spare": (0, 2),
}
"""What may vary from one launch to the next, and how."""


def mixed_up(problem: Problem, seed: int) -> Problem:
    """The problem with every knob turned at random: what goes wrong only where two of them meet."""
    draw = random.Random(seed)
    turned = {name: draw.choice(values) for name, values in KNOBS.items()}
    if problem.pad_slot_id is not None:  # its rows count on it
        del turned["pad_slot_id"]
    if any(row.length != 1 for row in problem.rows):  # else row n is token n
        turned["starts"] = True
    return replace(problem, seed=seed, **turned)


SERVED = Problem(
    rows=one_each(*range(5, 22), PADDING, *range(30, 36)),
    K=128,
    V=128,
    slots=40,
    packing="interleaved",
    activations=torch.bfloat16,
    conv=torch.bfloat16,
)
"""24 rows in a layer of four heads of Qwen3-Next's size."""
LARGE = replace(SERVED, rows=one_each(0, 3, PADDING, 1), H=16, slots=5, state=torch.bfloat16)
SMALL_HEADS = Problem(H=16, K=16, V=16)
