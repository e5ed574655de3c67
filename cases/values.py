"""Value recipes: what the tensors of a case hold, as a handful of words instead of blobs.

Each recipe is an enum whose members stand in order of simplicity, so that a sampler shrinks towards the
first. Numbers come from a counter-based hash and exact float64 operations only (integer arithmetic, single
additions, products, divisions, square roots): no libm, no library's generator. The same case therefore
gives the same bits on every machine and device, and an element depends on its own index alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdn_verify.cases.contract import require

Array = NDArray[np.float64]
_U64 = NDArray[np.uint64]


class Fill(StrEnum):
    """Elements without structure: v, z, weights."""

    ZEROS = "zeros"
    ONES = "ones"
    ONE_HOT = "one-hot"
    INTEGERS = "small integers"
    NORMAL = "normal"


class Vectors(StrEnum):
    """q or k of each token: direction and length."""

    ONES = "ones"
    ONE_HOT = "one-hot"
    INTEGERS = "small integers"
    NORMAL = "normal"
    CORRELATED = "correlated"
    TINY = "tiny norm"
    HUGE = "huge norm"


class Gates(StrEnum):
    """The decay: how much of the state a token keeps."""

    ZERO = "zero"
    HALVING = "halving"
    WEAK = "weak"
    NORMAL = "normal"
    SPARSE = "sparse"
    STRONG = "strong"
    SPIKE = "single spike"
    SATURATED_LOW = "softplus saturated low"
    SATURATED_HIGH = "softplus saturated high"


class Betas(StrEnum):
    """How much of a token is written."""

    HALF = "half"
    NORMAL = "normal"
    NEAR_ZERO = "near 0"
    NEAR_ONE = "near 1"


class States(StrEnum):
    """What a pool holds before the first launch."""

    ZEROS = "zeros"
    ONE_HOT = "one-hot"
    INTEGERS = "small integers"
    NORMAL = "normal"
    LARGE = "large"
    ASYMMETRIC = "asymmetric"


class Taps(StrEnum):
    """Conv weights: the token itself, a plain mean, or anything."""

    IDENTITY = "identity"
    MEAN = "mean"
    NORMAL = "normal"


@dataclass(frozen=True)
class Values:
    """The recipes of one case, and the seed that tells two cases of one recipe apart."""

    seed: int = 0
    q: Vectors = Vectors.ONES
    k: Vectors = Vectors.ONES
    v: Fill = Fill.ONES
    gates: Gates = Gates.ZERO
    beta: Betas = Betas.HALF
    state: States = States.ZEROS
    conv: Taps = Taps.IDENTITY
    z: Fill = Fill.ONES

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "values.seed", self.seed, "lies in 0…2³²-1")


# Splitmix64 (Steele, Lea, Flood 2014): increment and the two multipliers of its finaliser.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_FIELD = np.uint64(0xFFFF)
_PIECE = 1 << 14
"""Elements that are made at once: pools are large, and the steps between stay in a cache."""


@lru_cache(maxsize=4096)
def _key(seed: int, name: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def bits(seed: int, name: str, shape: tuple[int, ...]) -> _U64:
    """64 hashed bits an element; [*shape] uint64, the element's flat index being all that it depends on."""
    return _hashed(_key(seed, name), 0, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def _hashed(key: int, start: int, stop: int) -> _U64:
    """The bits of the elements with flat indices start … stop-1."""
    x = np.arange(start + 1, stop + 1, dtype=np.uint64)
    x *= _GOLDEN
    x += np.uint64(key)
    x ^= x >> np.uint64(30)
    x *= _MIX1
    x ^= x >> np.uint64(27)
    x *= _MIX2
    x ^= x >> np.uint64(31)
    return x


def uniform(seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """Uniform in [0, 1), a multiple of 2⁻²⁴, so that float32 holds it exactly; [*shape] float64."""
    return (bits(seed, name, shape) >> np.uint64(40)).astype(np.float64) * 2.0**-24


def normal(seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """Mean 0, variance 1, within ±3.47: the scaled sum of four 16-bit uniforms; [*shape] float64."""
    out = np.empty(int(np.prod(shape, dtype=np.int64)))
    for start in range(0, out.size, _PIECE):
        piece = out[start : start + _PIECE]
        x = _hashed(_key(seed, name), start, start + piece.size)
        total = x & _FIELD
        for shift in (16, 32, 48):
            total += (x >> np.uint64(shift)) & _FIELD
        np.multiply(total.astype(np.float64) - 131070.0, 3.0**0.5 / 65536.0, out=piece)
    return out.reshape(shape)


def integers(seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """Integers -3…3; [*shape] float64."""
    return (bits(seed, name, shape) % np.uint64(7)).astype(np.float64) - 3.0


def one_hot(seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """A single 1 in each vector along the last axis; [*shape] float64."""
    place = bits(seed, name, shape[:-1]) % np.uint64(max(shape[-1], 1))
    return (np.arange(shape[-1], dtype=np.uint64) == place[..., None]).astype(np.float64)


def fill(recipe: Fill, seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """A tensor by a `Fill` recipe; [*shape] float64."""
    if recipe is Fill.ZEROS:
        return np.zeros(shape)
    if recipe is Fill.ONES:
        return np.ones(shape)
    return {Fill.ONE_HOT: one_hot, Fill.INTEGERS: integers, Fill.NORMAL: normal}[recipe](seed, name, shape)


def vectors(recipe: Vectors, seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """q or k by a `Vectors` recipe; [T, H, K] float64.

    Correlated vectors of a head lie within about 0.1 of one direction. The tiny ones have Σx² near the
    1e-6 of the q/k norm, where a forgotten or misplaced eps shows; the huge ones reach 1.4·10⁴, which
    float16 still holds.
    """
    if recipe is Vectors.ONES:
        return np.ones(shape)
    if recipe is Vectors.ONE_HOT:
        return one_hot(seed, name, shape)
    if recipe is Vectors.INTEGERS:
        return integers(seed, name, shape)
    noise = normal(seed, name, shape)
    if recipe is Vectors.CORRELATED:
        return normal(seed, name + "/direction", shape[1:]) + 0.1 * noise
    return noise * {Vectors.NORMAL: 1.0, Vectors.TINY: 2.0**-13, Vectors.HUGE: 2.0**12}[recipe]


def states(recipe: States, seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """Initial states by a `States` recipe; [P, HV, V, K] float64. Asymmetric: rows grow along V, shrink along K."""
    if recipe is States.ZEROS:
        return np.zeros(shape)
    if recipe is States.ONE_HOT:
        return one_hot(seed, name, shape)
    if recipe is States.INTEGERS:
        return integers(seed, name, shape)
    noise = normal(seed, name, shape)
    if recipe is States.ASYMMETRIC:
        rows, columns = np.arange(shape[-2], dtype=np.float64), np.arange(shape[-1], dtype=np.float64)
        return noise * ((1.0 + rows)[:, None] / (1.0 + columns))
    return noise * (64.0 if recipe is States.LARGE else 1.0)


LOG_2 = 0.6931471805599453
"""The natural logarithm of 2, to float64's last digit."""


def log_decay(recipe: Gates, seed: int, name: str, spike: Array) -> Array:
    """g itself, for paths that take it; `spike` [T, HV] marks one token a row and head; [T, HV] float64."""
    u = uniform(seed, name, spike.shape)
    if recipe is Gates.SPIKE:
        return np.where(spike > 0, -150.0, -0.05 * u)
    if recipe is Gates.SPARSE:
        return np.where(uniform(seed, name + "/sparse", spike.shape) < 0.5, 0.0, -2.0 * u)
    low, high = {
        Gates.ZERO: (0.0, 0.0),
        Gates.HALVING: (LOG_2, LOG_2),
        Gates.WEAK: (0.0, 0.05),
        Gates.NORMAL: (0.01, 2.0),
        Gates.STRONG: (10.0, 60.0),
        Gates.SATURATED_LOW: (0.0, 2.0**-22),
        Gates.SATURATED_HIGH: (0.75, 2.0),
    }[recipe]
    return -(low + (high - low) * u)


def raw_gate(recipe: Gates, seed: int, name: str, spike: Array) -> Array:
    """a, the input of softplus, for paths that compute the gate; [T, HV] float64. See `A_LOG`."""
    u = uniform(seed, name, spike.shape)
    if recipe is Gates.SPIKE:
        return np.where(spike > 0, 150.0, -4.0 + 2.0 * u)
    if recipe is Gates.SPARSE:
        return np.where(uniform(seed, name + "/sparse", spike.shape) < 0.5, -90.0, 4.0 * u)
    low, high = {
        Gates.ZERO: (-90.0, -90.0),
        Gates.HALVING: (0.0, 0.0),  # where e^x is 1, and with no bias softplus is log 2
        Gates.WEAK: (-3.0, 1.0),
        Gates.NORMAL: (-4.0, 4.0),
        Gates.STRONG: (10.0, 18.0),
        Gates.SATURATED_LOW: (-40.0, -15.0),
        Gates.SATURATED_HIGH: (17.0, 23.0),  # both sides of softplus's threshold, 20
    }[recipe]
    return low + (high - low) * u


A_LOG: dict[Gates, tuple[float, float]] = {
    # The range of A_log: with `raw_gate` it keeps g = -exp(A_log)·softplus(a + dt_bias) above -200.
    Gates.ZERO: (0.0, 0.0),
    Gates.HALVING: (0.0, 0.0),
    Gates.WEAK: (-4.0, -3.0),
    Gates.NORMAL: (-2.0, 1.0),
    Gates.SPARSE: (-2.0, 0.0),
    Gates.STRONG: (0.0, 1.0),
    Gates.SPIKE: (-0.5, 0.2),
    Gates.SATURATED_LOW: (0.0, 2.0),
    Gates.SATURATED_HIGH: (-4.0, -2.0),
}


def gate_bias(recipe: Gates, seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """dt_bias, which is added to a; [HV] float64."""
    return np.zeros(shape) if recipe is Gates.HALVING else 0.25 * uniform(seed, name, shape)


def beta(recipe: Betas, seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """β itself, in [0, 1]; [T, HV] float64."""
    u = uniform(seed, name, shape)
    low, high = {
        Betas.HALF: (0.5, 0.5),
        Betas.NORMAL: (0.05, 0.95),
        Betas.NEAR_ZERO: (0.0, 2.0**-8),
        Betas.NEAR_ONE: (1.0 - 2.0**-8, 1.0),
    }[recipe]
    return low + (high - low) * u


def raw_beta(recipe: Betas, seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """b, the input of the sigmoid; [T, HV] float64."""
    u = uniform(seed, name, shape)
    low, high = {
        Betas.HALF: (0.0, 0.0),
        Betas.NORMAL: (-3.0, 3.0),
        Betas.NEAR_ZERO: (-30.0, -6.0),
        Betas.NEAR_ONE: (6.0, 30.0),
    }[recipe]
    return low + (high - low) * u


def taps(recipe: Taps, seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """Conv weights; [D, W] float64. Identity keeps the newest token alone."""
    if recipe is Taps.IDENTITY:
        return np.broadcast_to(np.arange(shape[1]) == shape[1] - 1, shape).astype(np.float64)
    if recipe is Taps.MEAN:
        return np.full(shape, 0.25)
    return 0.5 * normal(seed, name, shape)


def unit(x: Array) -> Array:
    """x over its length along the last axis, summed in index order so that every machine agrees; same shape."""
    square = np.cumsum(x * x, axis=-1)[..., -1:]
    return x / np.sqrt(square + 1e-6)


def spikes(seed: int, lengths: tuple[int, ...], heads: int) -> Array:
    """1 at one token of each row and head, else 0; [Σ lengths, heads] float64."""
    pieces: list[Any] = [np.zeros((0, heads))]
    for row, length in enumerate(lengths):
        if length:
            place = bits(seed, f"spike/{row}", (heads,)) % np.uint64(length)
            pieces.append((np.arange(length, dtype=np.uint64)[:, None] == place).astype(np.float64))
    return np.concatenate(pieces)
