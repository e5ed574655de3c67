"""A case: one problem for every path. A pool of slots, and batches of rows that are launched in turn.

Row → Batch → Case, all frozen and checked on construction. A case holds no tensor: values are recipes
(`values.py`), slots are logical numbers, and how a path is fed is a `Presentation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from gdn_verify.cases.contract import DTypes, Geometry, Group, Kind, Options, require
from gdn_verify.cases.values import Values

MAX_TOKENS = 1 << 20


@dataclass(frozen=True)
class Row:
    """One sequence in a launch.

    `slots` holds one logical slot, or S of them for a spec row; None stands for the sentinel of whoever
    is fed. `accepted` (1…S) makes the row a spec row. `fresh` means no initial state. `read` is a slot to
    read from where it differs from the slot written; the row's own slot may be named too, and says nothing new.
    """

    tokens: int
    slots: tuple[int | None, ...]
    accepted: int | None = None
    fresh: bool = False
    read: int | None = None

    def __post_init__(self) -> None:
        require(0 <= self.tokens <= MAX_TOKENS, "row.tokens", self.tokens, f"lies in 0…{MAX_TOKENS}")
        require(len(self.slots) >= 1, "row.slots", self.slots, "names at least one slot")
        for slot in (*self.slots, self.read):
            require(slot is None or slot >= 0, "row.slots", slot, "is None (sentinel) or a slot number")
        if self.accepted is None:
            require(len(self.slots) == 1, "row.slots", self.slots, "a row without accepted has one slot")
        else:
            self._check_spec(self.accepted)

    def _check_spec(self, accepted: int) -> None:
        width = len(self.slots)
        require(1 <= accepted <= width, "row.accepted", accepted, f"lies in 1…{width}, the table's width")
        require(self.tokens <= width, "row.tokens", self.tokens, f"a spec row has at most {width} tokens")
        require(not self.fresh, "row.fresh", True, "a spec row continues a sequence")
        require(self.read is None, "row.read", self.read, "a spec row reads from its table")
        homeless = self.slots[0] is None and self.slots[accepted - 1] is not None
        require(not homeless, "row.slots", self.slots, "the conv state lives in column 0, which a live draft must name")

    @property
    def spec(self) -> bool:
        """Whether the row verifies a draft."""
        return self.accepted is not None

    @property
    def read_slot(self) -> int | None:
        """The slot read, None for a padded row; a fresh row's is not looked at."""
        if self.slots[0] is None and not self.spec:
            return None
        if self.read is not None:
            return self.read
        return self.slots[(self.accepted or 1) - 1]

    @property
    def conv_slot(self) -> int | None:
        """The slot of the conv state: column 0 for a spec row."""
        return self.slots[0]

    @property
    def padded(self) -> bool:
        """Whether the row is no sequence at all."""
        return self.read_slot is None

    @property
    def live(self) -> bool:
        """Whether the row computes anything."""
        return self.tokens > 0 and not self.padded

    @property
    def written(self) -> tuple[int, ...]:
        """The ssm slots a launch writes for this row."""
        if not self.live:
            return ()
        columns = self.slots[: self.tokens] if self.spec else self.slots
        return tuple(slot for slot in columns if slot is not None)

    @property
    def in_place(self) -> bool:
        """Whether no other slot is named to read from than the one that is written."""
        return self.read is None or self.read == self.slots[0]

    @property
    def group(self) -> Group:
        """What kind of row this is."""
        if self.spec:
            return Group.SPEC
        return Group.DECODE if self.tokens == 1 and not self.fresh and self.in_place else Group.PREFILL


@dataclass(frozen=True)
class Move:
    """A sequence's state copied to slot `to` before a launch, where it is the plain state that decode rows read.

    It stands in `slots`: in one slot, or in a draft's table, of which `accepted` tokens were taken. The recurrent state
    comes from column accepted-1, the conv state from the slot of column 0, W-1 columns from column accepted-1 on. A
    commit is a move to column 0; to any other slot it copies a prefix, or makes way for somebody else.
    """

    slots: tuple[int, ...]
    to: int
    accepted: int = 1

    def __post_init__(self) -> None:
        require(len(self.slots) >= 1, "move.slots", self.slots, "names at least one slot")
        for slot in (*self.slots, self.to):
            require(slot >= 0, "move.slots", slot, "is a slot number")
        width = len(self.slots)
        require(1 <= self.accepted <= width, "move.accepted", self.accepted, f"lies in 1…{width}, the table's width")
        require((self.to, self.accepted) != (self.slots[0], 1), "move.to", self.to, "is where the state is already")

    @property
    def source(self) -> int:
        """The slot of the recurrent state."""
        return self.slots[self.accepted - 1]

    @property
    def conv_source(self) -> int:
        """The slot of the conv state."""
        return self.slots[0]


@dataclass(frozen=True)
class Batch:
    """One launch: rows in order, and tokens of padding beyond the last row's.

    `moves` are made before it, one after the other; they are the engine's work, not the launched path's.
    """

    rows: tuple[Row, ...]
    pad_tokens: int = 0
    moves: tuple[Move, ...] = ()

    def __post_init__(self) -> None:
        require(0 <= self.pad_tokens <= 4096, "batch.pad_tokens", self.pad_tokens, "lies in 0…4096")
        require(self.tokens <= MAX_TOKENS, "batch.rows", self.tokens, f"hold at most {MAX_TOKENS} tokens")
        self._check_disjoint()

    def _check_disjoint(self) -> None:
        owner: dict[int, int] = {}
        for number, row in enumerate(self.rows):
            if row.padded:
                continue
            mine = {s for s in (*row.slots, row.read) if s is not None}
            named = sum(s is not None for s in row.slots)
            require(
                len({s for s in row.slots if s is not None}) == named,
                f"row {number} slots",
                row.slots,
                "are distinct",
            )
            for slot in mine:
                require(slot not in owner, f"row {number} slot", slot, f"belongs to row {owner.get(slot)} already")
                owner[slot] = number

    @property
    def tokens(self) -> int:
        """Tokens of all rows, padding at the end not counted."""
        return sum(row.tokens for row in self.rows)

    @property
    def query_start_loc(self) -> tuple[int, ...]:
        """Where each row starts in the packed tokens; N + 1 numbers."""
        return (0, *accumulate(row.tokens for row in self.rows))

    @property
    def kind(self) -> Kind:
        """The label of this launch: one group of rows, or mixed."""
        live = {row.group for row in self.rows if row.live}
        groups = live or {row.group for row in self.rows} or {Group.DECODE}
        if len(groups) > 1:
            return Kind.MIXED if live else (Kind.SPEC if Group.SPEC in groups else Kind.PREFILL)
        return Kind(next(iter(groups)).value)

    def live_rows(self) -> Iterator[tuple[int, Row]]:
        """The rows that compute, each with its number."""
        return ((number, row) for number, row in enumerate(self.rows) if row.live)


@dataclass(frozen=True)
class Case:
    """A pool of `slots` slots and the batches launched on it, one after the other."""

    geometry: Geometry
    dtypes: DTypes
    slots: int
    batches: tuple[Batch, ...]
    values: Values = field(default_factory=Values)
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        require(self.slots >= 1, "case.slots", self.slots, "a pool has at least one slot")
        require(len(self.batches) >= 1, "case.batches", (), "a case launches at least once")
        for number, batch in enumerate(self.batches):
            for row in batch.rows:
                self._check_row(number, row)
            for move in batch.moves:
                self._check_move(number, move)
        check_chain(self)

    def _check_row(self, batch: int, row: Row) -> None:
        where = f"batch {batch} row.slots"
        for slot in (*row.slots, row.read):
            require(slot is None or slot < self.slots, where, slot, f"is below the pool's {self.slots} slots")
        width = self.geometry.S
        if row.spec:
            require(len(row.slots) == width, where, row.slots, f"a spec row names S={width} slots")

    def _check_move(self, batch: int, move: Move) -> None:
        where, width = f"batch {batch} move.slots", self.geometry.S
        for slot in (*move.slots, move.to):
            require(slot < self.slots, where, slot, f"is below the pool's {self.slots} slots")
        require(len(move.slots) in (1, width), where, move.slots, f"is one slot, or the S={width} of a draft")

    @property
    def kind(self) -> Kind:
        """The kind of the first launch that is not like the others, or of all."""
        kinds = {batch.kind for batch in self.batches}
        return next(iter(kinds)) if len(kinds) == 1 else Kind.MIXED


def check_chain(case: Case) -> None:
    """Refuse what the contract forbids to follow a launch on the same slots.

    Slots that a spec row wrote may be taken up by a spec row of the same table, with a count accepted from
    the tokens it had, or by a plain row on column 0, which is an accepted count of 1. Slots that a plain
    row wrote may be taken up by a spec row with accepted 1. A fresh row may follow anything. A move takes a state up
    as the row would that reads it, and leaves it as a plain row's.
    """
    last: dict[int, Row] = {}
    for number, batch in enumerate(case.batches):
        for move in batch.moves:
            _check_follows(number, last, _reader(move))
            last[move.to] = Row(1, (move.to,))
        for _, row in batch.live_rows():
            if not row.fresh:
                _check_follows(number, last, row)
        for _, row in batch.live_rows():
            last.update({slot: row for slot in row.slots if slot is not None})


def _reader(move: Move) -> Row:
    """A row that reads what the move does."""
    return Row(1, move.slots, accepted=move.accepted if len(move.slots) > 1 else None)


def _check_follows(number: int, last: dict[int, Row], row: Row) -> None:
    assert row.read_slot is not None
    assert row.conv_slot is not None
    before = last.get(row.read_slot)
    where, slots = f"batch {number} row.accepted", f"batch {number} row.slots"
    if not row.spec:
        if before is not None and before.spec:
            require(row.read_slot == before.conv_slot, slots, row.slots, f"a commit, or column 0 of {before.slots}")
        return
    require(last.get(row.conv_slot) is before, slots, row.slots, "columns read come from one row of the launch before")
    if before is None:
        return
    if before.spec:
        require(row.slots == before.slots, slots, row.slots, f"continue the table {before.slots}")
    tokens = before.tokens if before.spec else 1
    assert row.accepted is not None
    require(row.accepted <= tokens, where, row.accepted, f"counts among the {tokens} tokens before")
