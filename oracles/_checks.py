"""Arguments of the oracles: one dtype, one layout, and a message that names what is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .sites import Site, quiet_sites


def floats(name: str, value: ArrayLike, *shape: int) -> np.ndarray:
    """`value` as a float64 array of `shape`, where -1 fits any length. ValueError otherwise."""
    array = np.asarray(value)
    if not _fits(array.shape, shape):
        raise ValueError(f"{name} has shape {array.shape}, expected {_text(shape)}")
    return _as_float64(name, array)


def per_run(name: str, value: ArrayLike, runs: int, *shape: int) -> np.ndarray:
    """Like `floats`, with a leading axis of 1 (shared by the runs) or `runs`."""
    array = np.asarray(value)
    if array.shape[:1] not in ((1,), (runs,)) or not _fits(array.shape[1:], shape):
        raise ValueError(f"{name} has shape {array.shape}, expected {_text((f'1 or {runs} runs', *shape))}")
    return _as_float64(name, array)


def row_starts(value: ArrayLike, tokens: int) -> np.ndarray:
    """`query_start_loc` as int64 [N+1]: from 0, never falling, at most `tokens`. ValueError otherwise."""
    starts = np.ascontiguousarray(value, dtype=np.int64)
    if starts.ndim != 1 or not starts.size or starts[0] != 0 or (starts[1:] < starts[:-1]).any():
        raise ValueError(f"query_start_loc is {starts.tolist()}, expected 0 and then a rising list")
    if starts[-1] > tokens:
        raise ValueError(f"query_start_loc ends at {starts[-1]}, expected at most {tokens} (the tokens)")
    return starts


def noise_source(sites: np.ndarray | None, seed: int, runs: int) -> tuple[np.ndarray, int]:
    """`sites` as float64 [len(Site), 2], all zero for None, and `seed` as 63 bits; `runs` must be positive."""
    if runs < 1:
        raise ValueError(f"runs is {runs}, expected at least 1 (run 0 is clean)")
    levels = quiet_sites() if sites is None else floats("sites", sites, len(Site), 2)
    return levels, int(seed) & 0x7FFF_FFFF_FFFF_FFFF  # a larger one would be another type to compile for


def multiple(name: str, value: int, of: str, divisor: int) -> int:
    """`value` / `divisor`, where that is a positive integer. ValueError otherwise."""
    if value < 1 or divisor < 1 or value % divisor:
        raise ValueError(f"{name} is {value}, expected a positive multiple of {of} = {divisor}")
    return value // divisor


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))


def _text(shape: tuple[int | str, ...]) -> str:
    return "(" + ", ".join("any" if length == -1 else str(length) for length in shape) + ")"


def _as_float64(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":  # bit patterns of a narrow type are integers: never values
        raise ValueError(f"{name} has dtype {array.dtype}, expected a floating-point type")
    array = np.ascontiguousarray(array, dtype=np.float64)
    return array if array.flags.writeable else array.copy()  # numba would compile anew for read-only
