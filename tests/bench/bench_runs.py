"""Runs made by hand: two machines, two dtypes of the state, everything that can become of a contender."""

from __future__ import annotations

from dataclasses import replace

from gdn_verify.bench.machine import Machine
from gdn_verify.bench.record import NULL, Column, Record, Run, Verdict

MACHINE = Machine("Card A", "sm_90", 50 << 20, "2.11.0, CUDA 13.0", "3.6.0", "3.12.3")
OTHER = replace(MACHINE, device="Card B", arch="gfx942")


def record(name: str, rows: int, *samples: float, state: str = "float32", verdict: Verdict | None = None) -> Record:
    """One contender's result; a yardstick if it is called null or touch."""
    yardstick = name.startswith(("touch", NULL))
    verdict = verdict or (Verdict.YARDSTICK if yardstick else Verdict.AGREES)
    span = "" if yardstick else "unpack…norm"
    floor = 0 if name == NULL else 4_000_000 * rows
    made = Record(
        name, "1", span, 16, 32, 128, 128, 1, rows, state, verdict, layers=36, launches=1.0, floor_bytes=floor
    )
    return replace(made, device_us=samples, host_us=tuple(9.0 for _ in samples))


def column(rows: int) -> Column:
    """The column of a decode of this many rows."""
    return Column(rows, rows, str(rows))


def run(scale: float = 1.0, machine: Machine = MACHINE, date: str = "2026-11-23T10:00:00+00:00") -> Run:
    """Three passes over the states, an empty launch, a right contender, a wrong one, one that raises, one refusing."""
    records = [
        record(name, rows, *(scale * time * rows for time in times))
        for rows in (1, 16)
        for name, times in {
            NULL: (1.0, 1.1, 1.2),
            "touch 16384": (5.0, 5.0, 5.0),
            "touch 8192": (4.0, 4.0, 4.1),
            "touch 4096": (4.5, 4.5, 4.5),
            "right": (5.0, 5.0, 5.2, 6.0),
        }.items()
    ]
    for rows in (1, 16):
        bad = record("wrong", rows, verdict=Verdict.DISAGREES)
        records.append(replace(bad, words="out[0, 0, 3]", ratio=321.0, limit=7.0))
        records.append(replace(record("lame", rows, verdict=Verdict.RAISED), words="ValueError: no such card"))
        records.append(replace(record("choosy", rows, verdict=Verdict.REFUSED), words="K=128 is too wide"))
    return Run(machine, date, "graph", True, "0.1.0", tuple(records), ("absent: not installed (pip install absent)",))
