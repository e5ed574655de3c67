"""Defects of what stands around the kernels: trials of a tuner, copies of z, views that are not aligned.

Each is the like of a bug of the catalogue. Some are of the process, as a tuner's cache is.
"""

from __future__ import annotations

from torch import Tensor

from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.replaced import Function, replaced
from gdn_verify.paths.base import Launch, Outputs, Path

WORD = 16
"""Bytes that a kernel loads at once."""
TILE = 8
"""Tokens from which on z is copied in tiles."""


_TUNED: set[tuple[object, ...]] = set()
"""Shapes that a configuration has been chosen for."""


def trials_on_the_callers_state(path: Path) -> Run:
    """A kernel's first launch for a shape is one of several trials, and each moves the states in place."""

    def run(launch: Launch) -> Outputs:
        key = (launch.geometry, launch.dtypes, len(launch.batch.rows))
        if key not in _TUNED:
            _TUNED.add(key)
            path.run(launch)
        return path.run(launch)

    return run


def z_of_a_power_of_two(path: Path) -> Run:
    """z is copied in one pass over each key head, of as many value heads as the largest power of two that fits."""

    def run(launch: Launch) -> Outputs:
        before = launch["z_out"].clone()
        outputs = path.run(launch)
        g = launch.geometry
        ratio = g.HV // g.H
        if len(before) >= TILE:
            left_out = before.unflatten(1, (g.H, ratio))[:, :, 1 << (ratio.bit_length() - 1) :]
            launch["z_out"].unflatten(1, (g.H, ratio))[:, :, 1 << (ratio.bit_length() - 1) :] = left_out
        return outputs

    return run


def split_into_views_at_odd_ratios(path: Path) -> Run:
    """Ratios that are no power of two fall back to a plain split, and a kernel takes its parts for aligned."""

    def wrong(right: Function, launch: Launch) -> Function:
        def unpack(*args: object) -> tuple[Tensor, ...]:
            parts: tuple[Tensor, ...] = right(*args)
            ratio = launch.geometry.HV // launch.geometry.H
            *_, a = parts
            if ratio & (ratio - 1) and a.numel() and a.data_ptr() % WORD:
                raise RuntimeError(f"a of shape {list(a.shape)} is not aligned to {WORD} bytes")
            return parts

        return unpack

    return replaced(path, {"stages.unpack": wrong})
