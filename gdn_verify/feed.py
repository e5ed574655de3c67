"""From a case to memory: one launch's tensors in an arena, laid out as a presentation asks.

`Feed` keeps both sides of the same numbers: what the path is handed (poisoned, strided, packed) and what
the oracle is asked (live rows only, in float64). Both come from one rounding, so inputs are never noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdn_verify.arena import Arena, Poison, Role
from gdn_verify.cases import problem
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import Capabilities, DType, DTypes, Packing, Span, Stage, StateOrder
from gdn_verify.cases.presentation import ConvLayout, IndexType, Presentation
from gdn_verify.oracles.stages import pack
from gdn_verify.paths.base import Launch, Path

TORCH = {DType.F32: torch.float32, DType.BF16: torch.bfloat16, DType.F16: torch.float16}
_CARRIER = {2: torch.int16, 4: torch.int32}


@dataclass(frozen=True)
class Pools:
    """The bytes of both pools between two launches, in the contract's layout, on the processor.

    `ssm` [P, HV, V, K] and `conv` [P, D, C] in their own dtypes; P counts the slot that `first_slot` skips.
    """

    ssm: Tensor | None
    conv: Tensor | None


@dataclass(frozen=True)
class Feed:
    """One batch of a case, fed to one path: the launch, its arena, and the rounded numbers behind it.

    `rounded` holds the inputs at the left edge in their dtypes, in the contract's layout, without poison.
    `before` holds the pools as the launch found them.
    """

    case: Case
    number: int
    presentation: Presentation
    launch: Launch
    arena: Arena
    rounded: Mapping[str, Tensor]
    before: Pools

    @property
    def batch(self) -> Batch:
        """The batch that is launched."""
        return self.case.batches[self.number]

    @cached_property
    def live_tokens(self) -> NDArray[np.int64]:
        """Positions in the packed tokens that belong to live rows, in order."""
        starts = self.batch.query_start_loc
        spans = [np.arange(starts[n], starts[n + 1]) for n, _ in self.batch.live_rows()]
        return np.concatenate([np.zeros(0, np.int64), *spans])

    def physical(self, slot: int) -> int:
        """A logical slot's place in the pool."""
        return slot + self.presentation.first_slot


def initial_pools(case: Case, path: Path, presentation: Presentation) -> Pools:
    """The pools before the first launch, what no launch of the case may read being poison."""
    made = problem.pools(case, path.capabilities.span)
    poison = Poison(presentation.poison.value)
    ssm = conv = None
    if "ssm" in made:
        ssm = _poisoned(stored_as(made["ssm"], case.dtypes.state), _unread_slots(case), poison)
    if "conv" in made:
        conv = _poisoned(stored_as(made["conv"], case.dtypes.conv_state), _unread_columns(case), poison)
    return Pools(_shifted(ssm, presentation, poison), _shifted(conv, presentation, poison))


def _unread_slots(case: Case) -> Tensor:
    """Slots whose first bytes no launch may read: those that are written first, and those that nobody reads."""
    unread = torch.ones(case.slots, dtype=torch.bool)
    written: set[int] = set()
    for batch in case.batches:
        for move in batch.moves:
            if move.source not in written:
                unread[move.source] = False
            written.add(move.to)
        for row in batch.rows:
            if row.read_slot is not None and not row.fresh and row.read_slot not in written:
                unread[row.read_slot] = False
        written |= {slot for row in batch.rows for slot in row.written}
    return unread


def _unread_columns(case: Case) -> Tensor:
    """[P, 1, C]: columns of conv slots that no row of the first launch reads; later launches may read any.

    Nor does anybody read a slot that holds the state of a sequence that began in a launch, or was moved.
    """
    past, columns = case.geometry.W - 1, torch.arange(case.geometry.C)
    unread = torch.ones(case.slots, case.geometry.C, dtype=torch.bool)
    begun: set[int] = set()
    for number, batch in enumerate(case.batches):
        for move in batch.moves:
            if move.conv_source not in begun:
                unread[move.conv_source] = False
            begun.add(move.to)
        for row in batch.rows:
            slot = row.read if row.read is not None else row.conv_slot
            if row.padded or row.fresh or slot is None or slot in begun:
                continue
            start = (row.accepted or 1) - 1
            everything = number > 0 or row.tokens == 0
            unread[slot] &= False if everything else (columns < start) | (columns >= start + past)
        begun |= {row.slots[0] for _, row in batch.live_rows() if row.fresh and row.slots[0] is not None}
    return unread[:, None, :]


def _poisoned(value: Tensor, mask: Tensor, poison: Poison) -> Tensor:
    """`value` with the poison's bits where `mask` (leading axes, or broadcast) holds."""
    while mask.ndim < value.ndim:
        mask = mask.unsqueeze(-1)
    carrier = _CARRIER[value.element_size()]
    return value.view(carrier).masked_fill(mask, poison.bits(value.dtype)).view(value.dtype)


def _shifted(pool: Tensor | None, presentation: Presentation, poison: Poison) -> Tensor | None:
    if pool is None or presentation.first_slot == 0:
        return pool
    reserved = _poisoned(torch.zeros_like(pool[:1]), torch.ones(1, dtype=torch.bool), poison)
    return torch.cat([reserved, pool])


def stored_as(value: NDArray[np.float64], dtype: DType) -> Tensor:
    """To the nearest number of `dtype`, ties to even, by way of float32."""
    return torch.from_numpy(np.ascontiguousarray(value, np.float32)).to(TORCH[dtype])


def inputs(case: Case, number: int, span: Span) -> dict[str, Tensor]:
    """The inputs of batch `number` and the parameters, as the case's recipes have them, in their dtypes."""
    made = problem.activations(case, number, span) | problem.parameters(case, span)
    return {name: stored_as(value, dtype_of(name, case.dtypes)) for name, value in made.items()}


def dtype_of(name: str, dtypes: DTypes) -> DType:
    """The type in which an input or a parameter is stored."""
    if name in PARAMETERS:
        return dtypes.params if name in GATE_PARAMETERS else dtypes.weights
    return dtypes.gates if name in ("g", "beta") else dtypes.activation


def feed(
    case: Case,
    number: int,
    path: Path,
    presentation: Presentation,
    pools: Pools,
    device: str,
    *,
    rounded: Mapping[str, Tensor] | None = None,
) -> Feed:
    """Lay batch `number` out for `path` and seal the arena; with `rounded` inputs, or with those of its recipes."""
    rounded = inputs(case, number, path.capabilities.span) if rounded is None else rounded
    arena = Arena(device, poison=Poison(presentation.poison.value))
    placed = _place_activations(arena, case, number, path, presentation, rounded)
    placed |= _place_parameters(arena, rounded)
    S = case.geometry.S
    placed |= place_tables(arena, case.batches[number], S, presentation, path.capabilities, (1, S, 0, -3, S + 2))
    placed |= _place_states(arena, case, number, path, presentation, pools)
    placed |= _place_outputs(arena, case, number, path, presentation)
    arena.seal()
    launch = Launch(case.geometry, case.dtypes, case.options, case.batches[number], presentation, placed, number)
    return Feed(case, number, presentation, launch, arena, rounded, pools)


PARAMETERS = ("conv_weight", "conv_bias", "A_log", "dt_bias", "norm_weight")
GATE_PARAMETERS = ("A_log", "dt_bias")


def _place_parameters(arena: Arena, rounded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: arena.place(n, rounded[n], role=Role.INPUT) for n in PARAMETERS if n in rounded}


def _padded_tokens(batch: Batch) -> Tensor:
    """bool [T + pad]: tokens of padded rows, and those beyond the last row."""
    rows = torch.tensor([row.padded for row in batch.rows], dtype=torch.bool)
    lengths = torch.tensor([row.tokens for row in batch.rows], dtype=torch.int64)
    inside = torch.repeat_interleave(rows, lengths)
    return torch.cat([inside, torch.ones(batch.pad_tokens, dtype=torch.bool)])


def _place_activations(
    arena: Arena, case: Case, number: int, path: Path, shown: Presentation, rounded: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    mask = _padded_tokens(case.batches[number])
    poison = Poison(shown.poison.value)
    tensors = {n: v for n, v in rounded.items() if n not in PARAMETERS}
    # z is passed through for every token, so it must hold a value everywhere; the rest must not be read.
    tensors = {n: v if n == "z" else _poisoned(v, mask, poison) for n, v in tensors.items()}
    if path.capabilities.span.first is Stage.UNPACK:
        tensors = _packed(case, shown, tensors)
    if "x" in tensors:
        tensors["mixed_qkv"] = tensors.pop("x")
    return {name: _place_rows(arena, name, value, shown) for name, value in tensors.items()}


UNALIKE = {"k": 2, "beta": 2}
"""How many `row_pad` lie between tokens, where not one: of two tensors of one shape, so that they are not taken for
each other."""


def _packed(case: Case, shown: Presentation, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """qkvz and ba as one tensor each; a pure permutation of elements, so done on bit patterns."""
    g = case.geometry
    bits = {n: t.view(_CARRIER[t.element_size()]).numpy() for n, t in tensors.items()}
    packing: Literal["flat", "interleaved"] = "flat" if shown.packing is Packing.FLAT else "interleaved"
    qkvz, ba = pack(bits["x"], bits["z"], bits["b"], bits["a"], g.H, g.K, packing)
    dtype = tensors["x"].dtype
    return {
        "qkvz": torch.from_numpy(np.ascontiguousarray(qkvz)).view(dtype),
        "ba": torch.from_numpy(np.ascontiguousarray(ba)).view(dtype),
    }


def _place_rows(arena: Arena, name: str, value: Tensor, shown: Presentation) -> Tensor:
    """An activation, with `row_pad` elements between tokens, or a multiple of that."""
    length = value[0].numel() if value.shape[0] else 0
    stride = length + UNALIKE.get(name, 1) * shown.row_pad if shown.row_pad and length else None
    misalign = shown.misalign * value.element_size()
    return arena.place(name, value, role=Role.INPUT, slot_stride=stride, misalign_bytes=misalign)


def place_tables(
    arena: Arena, batch: Batch, width: int, shown: Presentation, taken: Capabilities, counts: Sequence[int] = (0,)
) -> dict[str, Tensor]:
    """The index tables of a launch, drafts having `width` slots: those that a path takes, by name.

    `counts` stand in turn where a row is no draft, and nobody may look at them.
    """
    dtype = torch.int64 if shown.index_type is IndexType.I64 else torch.int32
    tables = {
        "query_start_loc": torch.tensor(batch.query_start_loc, dtype=dtype),
        "has_initial_state": torch.tensor([not row.fresh for row in batch.rows], dtype=torch.bool),
    }
    if taken.pool:
        tables |= _slot_tables(batch, width, shown, dtype, counts)
    if not taken.separate_slots:  # its rows read where they write, whether or not they say so
        tables.pop("read_indices", None)
    return {name: _place_table(arena, name, value, shown) for name, value in tables.items()}


SLOTS = ("state_indices", "read_indices")
FACTS = ("num_accepted_tokens", "has_initial_state")
ELSEWHERE = {"num_accepted_tokens": (1, 2), "has_initial_state": (True, False)}
"""What stands between two rows' facts: the first, or where the row's own is that, the other."""


def _place_table(arena: Arena, name: str, table: Tensor, shown: Presentation) -> Tensor:
    """A table as it is, or as columns of a wider one: of slots, or of the rows' facts."""
    if name in FACTS and shown.row_step > 1:
        return _place_facts(arena, name, table, shown.row_step)
    step = shown.table_step if table.ndim == 2 else 1
    if name in SLOTS and (shown.table_pad or step > 1):
        return _place_slots(arena, name, table, shown, step)
    return arena.place(name, table, role=Role.INPUT)


def _place_facts(arena: Arena, name: str, table: Tensor, step: int) -> Tensor:
    """Facts `step` elements apart; between them stand others than the row's own, so that a wrong stride shows."""
    usual, other = ELSEWHERE[name]
    between = torch.where(table == usual, other, usual).to(table.dtype)
    wide = between[:, None].repeat(1, step)
    wide[:, 0] = table
    return arena.place(name, wide, role=Role.INPUT)[:, 0]


def _place_slots(arena: Arena, name: str, table: Tensor, shown: Presentation, step: int) -> Tensor:
    """Slots in columns `step` apart and followed by `table_pad` more.

    The others hold the first slot of the row, or of the nearest row before that has one: a kernel that assumes a
    stride takes a wrong slot, and no id that stands out.
    """
    columns = table[:, None] if table.ndim == 1 else table
    first = columns[:, 0].tolist()
    latest = accumulate(first, lambda last, slot: last if slot == shown.sentinel else slot, initial=shown.first_slot)
    between = torch.tensor(list(latest)[1:], dtype=table.dtype)[:, None]
    wide = between.repeat(1, columns.shape[1] * step + shown.table_pad)
    wide[:, : columns.shape[1] * step : step] = columns
    placed = arena.place(name, wide, role=Role.INPUT)
    return placed[:, 0] if table.ndim == 1 else placed[:, : columns.shape[1] * step : step]


def _slot_tables(
    batch: Batch, width: int, shown: Presentation, dtype: torch.dtype, of_nobody: Sequence[int]
) -> dict[str, Tensor]:
    spec = any(row.spec for row in batch.rows)
    width = width if spec else 1
    slots = [[shown.physical(s) for s in row.slots] + [shown.sentinel] * (width - len(row.slots)) for row in batch.rows]
    table = torch.tensor(slots, dtype=dtype).reshape(len(batch.rows), width)
    tables = {"state_indices": table if spec else table[:, 0].contiguous()}
    if spec:
        counts = [row.accepted or of_nobody[number % len(of_nobody)] for number, row in enumerate(batch.rows)]
        tables["num_accepted_tokens"] = torch.tensor(counts, dtype=dtype)
        tables["spec_rows"] = torch.tensor([row.spec for row in batch.rows], dtype=torch.bool)
    if any(row.read is not None for row in batch.rows):
        reads = [shown.physical(_read_id(row, number)) for number, row in enumerate(batch.rows)]
        tables["read_indices"] = torch.tensor(reads, dtype=dtype)
    return tables


def _read_id(row: Row, number: int) -> int | None:
    """The slot that a row's table names to read from; every other row without initial state names none."""
    if row.fresh and number % 2 == 0:
        return None
    return row.slots[0] if row.read is None else row.read


def _place_states(
    arena: Arena, case: Case, number: int, path: Path, shown: Presentation, pools: Pools
) -> dict[str, Tensor]:
    placed: dict[str, Tensor] = {}
    if pools.ssm is not None and not path.capabilities.pool:
        dense = dense_states(case, number, shown, pools.ssm)
        placed["initial_state"] = arena.place("initial_state", _ordered(dense, shown), role=Role.INPUT)
    elif pools.ssm is not None:
        placed["ssm_pool"] = _place_pool(arena, "ssm_pool", _ordered(pools.ssm, shown), shown)
    if pools.conv is not None:
        placed["conv_pool"] = _place_conv_pool(arena, pools.conv, shown)
    return placed


def dense_states(case: Case, number: int, shown: Presentation, ssm: Tensor) -> Tensor:
    """States of the rows of one batch, [N, HV, V, K]: zeros where a row is fresh."""
    states = torch.zeros((len(case.batches[number].rows), *ssm.shape[1:]), dtype=ssm.dtype)
    for n, row in enumerate(case.batches[number].rows):
        if row.read_slot is not None and not row.fresh:
            states[n] = ssm[row.read_slot + shown.first_slot]
    return states


def _ordered(state: Tensor, shown: Presentation) -> Tensor:
    """[…, V, K] in memory as VK, or as KV."""
    return state if shown.state_order is StateOrder.VK else state.transpose(-1, -2).contiguous()


def _place_pool(arena: Arena, name: str, value: Tensor, shown: Presentation) -> Tensor:
    stride = value[0].numel() + shown.slot_pad if shown.slot_pad else None
    misalign = shown.misalign * value.element_size()
    return arena.place(name, value, role=Role.STATE, slot_stride=stride, misalign_bytes=misalign)


def _place_conv_pool(arena: Arena, value: Tensor, shown: Presentation) -> Tensor:
    _, D, C = value.shape
    slot = D * C + shown.slot_pad
    inner = (C, 1) if shown.conv_layout is ConvLayout.C_CONTIGUOUS else (1, D)
    misalign = shown.misalign * value.element_size()
    return arena.place("conv_pool", value, role=Role.STATE, strides=(slot, *inner), misalign_bytes=misalign)


def _place_outputs(arena: Arena, case: Case, number: int, path: Path, shown: Presentation) -> dict[str, Tensor]:
    batch, g = case.batches[number], case.geometry
    shape = (batch.tokens + batch.pad_tokens, g.HV, g.V)
    names = ("out", "z_out") if path.capabilities.span.first is Stage.UNPACK else ("out",)
    misalign = shown.misalign * case.dtypes.activation.itemsize
    dtype = TORCH[case.dtypes.activation]
    return {n: arena.place(n, shape=shape, dtype=dtype, role=Role.OUTPUT, misalign_bytes=misalign) for n in names}


def pools_after(feed: Feed, final_state: Tensor | None = None) -> Pools:
    """The pools' bytes after the launch, in the contract's layout, on the processor; of a dense path its `final_state`,
    [N, HV, V, K] or [N, HV, K, V], in the slots of its rows and the type of the pool."""
    if final_state is not None:
        return _stored(feed, final_state.detach().cpu())
    ssm, conv = feed.launch.get("ssm_pool"), feed.launch.get("conv_pool")
    if ssm is not None and feed.presentation.state_order is StateOrder.KV:
        ssm = ssm.transpose(-1, -2)
    return replace(
        feed.before,
        ssm=None if ssm is None else ssm.cpu().contiguous(),
        conv=None if conv is None else conv.cpu().contiguous(),
    )


def _stored(feed: Feed, final: Tensor) -> Pools:
    assert feed.before.ssm is not None
    ssm = feed.before.ssm.clone()
    final = final.transpose(-1, -2) if feed.presentation.state_order is StateOrder.KV else final
    for number, row in feed.batch.live_rows():
        ssm[feed.physical(row.written[0])] = final[number].to(ssm.dtype)
    return replace(feed.before, ssm=ssm)
