"""Packed projections and their parts (contract, "Packings"): pure indexing, any dtype."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ._checks import multiple

Packing = Literal["flat", "interleaved"]


def unpack(
    qkvz: np.ndarray, ba: np.ndarray, H: int, HV: int, K: int, V: int, packing: Packing
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split the packed projections of a layer.

    qkvz [..., 2·H·K + 2·HV·V] and ba [..., 2·HV]; the leading axes are tokens, and runs where there are any.
    "flat" is [q | k | v | z] and [b | a] over all heads; "interleaved" is [q | k | v(r) | z(r)] and
    [b(r) | a(r)] per key head, r = HV / H.

    Returns mixed_qkv [..., 2·H·K + HV·V] (flat q | k | v whatever the packing), z [..., HV, V],
    b [..., HV] and a [..., HV], bit for bit. Raises ValueError for a width or a packing that does not fit.
    """
    r = multiple("HV", HV, "H", H)
    _last_axis("qkvz", qkvz, 2 * (H * K + HV * V))
    _last_axis("ba", ba, 2 * HV)
    groups = _groups(packing, H)
    lead = qkvz.shape[:-1]
    # A flat projection is one group of all heads, an interleaved one H groups of one key head.
    keys, values = H // groups * K, H // groups * r * V
    q, k, v, z = _split(_grouped(qkvz, groups), keys, keys, values, values)
    b, a = _split(_grouped(ba, groups), HV // groups, HV // groups)
    mixed = np.concatenate([_flattened(part) for part in (q, k, v)], axis=-1)
    return mixed, z.reshape(*lead, HV, V), _flattened(b), _flattened(a)


def pack(
    mixed_qkv: np.ndarray, z: np.ndarray, b: np.ndarray, a: np.ndarray, H: int, K: int, packing: Packing
) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `unpack`: qkvz and ba from mixed_qkv, z, b and a, whose shapes give HV and V."""
    HV, V = z.shape[-2:]
    multiple("HV", HV, "H", H)
    _last_axis("mixed_qkv", mixed_qkv, 2 * H * K + HV * V)
    groups = _groups(packing, H)
    parts = (*_split(mixed_qkv, H * K, H * K, HV * V), _flattened(z))
    return _join(parts, groups), _join((b, a), groups)


def _groups(packing: Packing, H: int) -> int:
    if packing not in ("flat", "interleaved"):
        raise ValueError(f"packing is {packing!r}, expected 'flat' or 'interleaved'")
    return 1 if packing == "flat" else H


def _last_axis(name: str, array: np.ndarray, width: int) -> None:
    if array.shape[-1] != width:
        raise ValueError(f"{name} has shape {array.shape}, expected a last axis of {width}")


def _split(array: np.ndarray, *widths: int) -> list[np.ndarray]:
    return np.split(array, np.cumsum(widths)[:-1], axis=-1)


def _join(parts: tuple[np.ndarray, ...], groups: int) -> np.ndarray:
    """Concatenate the g-th part of every array, group after group."""
    return _flattened(np.concatenate([_grouped(part, groups) for part in parts], axis=-1))


def _grouped(array: np.ndarray, groups: int) -> np.ndarray:
    """The last axis as two; -1 in reshape could not tell its length where there is no token."""
    return array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


def _flattened(array: np.ndarray) -> np.ndarray:
    """The last two axes as one."""
    return array.reshape(*array.shape[:-2], array.shape[-2] * array.shape[-1])
