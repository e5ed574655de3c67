"""Whether a compiled configuration may be launched on its chip, and runs from registers as it should."""

from __future__ import annotations

from dataclasses import dataclass

from gdn_verify.emulator.crosscompile.resources import Compiled, Resources
from gdn_verify.emulator.crosscompile.targets import MAX_THREADS, Chip


@dataclass(frozen=True)
class Verdict:
    """In words: what makes a configuration fail, and what is only worth knowing."""

    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is at fault."""
        return not self.faults


def judge(compiled: Compiled, chip: Chip, may_spill: bool) -> Verdict:
    """The verdict on one configuration: its compiler's error, or what it needs against the chip's limits.

    `may_spill` says that spills and scratch are no fault of it, but worth a note. Scalar registers that spill to
    vector registers are never more than a note: what would be slow, their scratch, counts as scratch.
    """
    needs = compiled.resources
    if needs is None:
        return Verdict(faults=(compiled.error,))
    over, slow = tuple(_over(needs, chip)), tuple(_slow(needs))
    scalar = (f"{needs.scalar_spills} scalar registers spilled",) if needs.scalar_spills else ()
    return Verdict(over, slow + scalar) if may_spill else Verdict(over + slow, scalar)


def _over(r: Resources, chip: Chip) -> list[str]:
    limits = (
        (r.shared_bytes, chip.shared_memory, "bytes of shared memory a block"),
        (r.threads, MAX_THREADS, "threads a block"),
        (r.registers, chip.registers, "vector registers a thread"),
    )
    return [f"{need} {what}, and {chip} has {limit}" for need, limit, what in limits if need > limit]


def _slow(r: Resources) -> list[str]:
    private = ((r.spill_bytes, "of vector registers spilled"), (r.scratch_bytes, "of scratch"))
    return [f"{size} bytes {what} a thread" for size, what in private if size]
