"""Index tensors that stay where they are: what a captured graph reads, filled anew before each replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.tables import Row, build_tables


class TableBuffers:
    """Tables for launches of up to `max_rows` rows, in memory that is allocated once.

    `width` is S where there are speculative rows, and the table has two dimensions in every launch; None where there
    are none. `reads` keeps slots to read from (`read_indices`) in every launch too. So all launches of `n` rows have
    tables of the same names, shapes, dtypes and addresses, and a graph that was captured on one of them reads the
    latest. `pad_slot_id`, `dtype` and `device` as in `build_tables`.
    """

    def __init__(
        self,
        max_rows: int,
        *,
        width: int | None = None,
        reads: bool = False,
        pad_slot_id: int = -1,
        dtype: torch.dtype = torch.int32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.max_rows, self.width, self.reads = max_rows, width, reads
        self.pad_slot_id, self.dtype = pad_slot_id, dtype
        self._whole = _on(self._made((), max_rows), device)

    def fill(self, rows: Sequence[Row], *, pad_to: int | None = None) -> Tables:
        """Writes the tables of `rows`, padded to `pad_to` rows, and gives views of them; earlier views see the same.

        Every row that a view has is written, the padded ones too: none keeps what stood there in a larger launch.
        The device is not waited for. Raises ValueError for more rows than there is memory for, and for rows that
        speculate or read elsewhere where the buffers were not made for that.
        """
        made = self._made(rows, pad_to)
        views = self._first(made.rows)
        for field in fields(Tables):
            if (view := getattr(views, field.name)) is not None:
                # From pageable memory, which CUDA stages itself: a pinned tensor that is written again for the next
                # launch may not have been copied yet.
                view.copy_(getattr(made, field.name), non_blocking=True)
        return views

    def _made(self, rows: Sequence[Row], pad_to: int | None) -> Tables:
        """The tables on the host, of the names and shapes that the buffers have."""
        self._check(rows, pad_to)
        made = build_tables(rows, width=self.width, pad_to=pad_to, pad_slot_id=self.pad_slot_id, dtype=self.dtype)
        if not self.reads:
            return replace(made, read_indices=None)
        own = made.state_indices.reshape(made.rows, made.width)[:, 0]
        return made if made.read_indices is not None else replace(made, read_indices=own.clone())

    def _check(self, rows: Sequence[Row], pad_to: int | None) -> None:
        if (count := max(len(rows), pad_to or 0)) > self.max_rows:
            raise ValueError(f"max_rows={self.max_rows} is less than the {count} rows wanted; allocate more")
        for n, row in enumerate(rows):
            if row.accepted is not None and self.width is None:
                raise ValueError(f"width=None: row {n} is speculative; give the buffers a width")
            if row.read_slot not in (None, row.slots[0]) and not self.reads:
                raise ValueError(f"reads=False: row {n} reads slot {row.read_slot}; give the buffers reads=True")

    def _first(self, rows: int) -> Tables:
        def cut(name: str) -> Tensor | None:
            buffer: Tensor | None = getattr(self._whole, name)
            return None if buffer is None else buffer[: rows + (name == "query_start_loc")]

        return Tables(**{field.name: cut(field.name) for field in fields(Tables)})  # type: ignore[arg-type]


def _on(tables: Tables, device: torch.device | str) -> Tables:
    """The tables in memory of their own on `device`."""
    moved = {field.name: getattr(tables, field.name) for field in fields(Tables)}
    return Tables(**{name: None if x is None else x.to(device, copy=True) for name, x in moved.items()})  # type: ignore[arg-type]
