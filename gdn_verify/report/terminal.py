"""Where tables are printed: a terminal as wide as it is, a log wide enough that no column is cut."""

from __future__ import annotations

from rich.console import Console

LOG_WIDTH = 190
"""Columns of the widest table, the gate's."""


def wide() -> Console:
    """The terminal; in a log, wide enough that a table is whole."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)
