"""Values to try: those at the edges of each type against each other, and random ones."""

from __future__ import annotations

from itertools import product
from random import Random

_FLOAT = (0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F7FFFFF, 0x3F000000, 0x40000000, 0x3FC00000, 0x4B000000, 0x4B000001)
_FLOAT += (0x4F000000, 0x4F800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x7F800001, 0x33800000, 0x38800000, 0x387FE000)
_FLOAT += (0x477FE000, 0x477FF000, 0x47800000, 0x3F808000, 0x3F818000, 0x7E800000, 0x00200000, 0x5F000000, 0x20000000)
_DOUBLE = (
    0,
    1,
    0xFFFFFFFFFFFFF,
    1 << 52,
    0x3FF << 52,
    (0x3FF << 52) + 1,
    0x7FE << 52,
    0x7FF << 52,
    (0x7FF << 52) + (1 << 51),
)
_DOUBLE += (0x47EFFFFFE0000000, 0x47EFFFFFF0000000, 0x3810000000000000, 0x36A0000000000000, 0x3690000000000001)
_HALF = (0, 1, 0x3FF, 0x400, 0x3C00, 0x3BFF, 0x7BFF, 0x7C00, 0x7E00, 0x4000, 0x3555)

_WORD = (0, 1, 2, 5, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFF, 0x800000, 0xFFFFFF)
_WORD += (0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFE, 0xFFFFFFFF, 0x00100005, 0x00200000, 0x001F0003, 0x0C0D0508)

SPECIAL = {
    "f": _FLOAT + tuple(x | 0x80000000 for x in _FLOAT),
    "d": _DOUBLE + tuple(x | (1 << 63) for x in _DOUBLE),
    "h": _HALF + tuple(x | 0x8000 for x in _HALF),
    "u": _WORD,
    "q": (0, 1, 31, 63, 64, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
    "w": (0, 1, 2, 14, 15, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF),
    "m": (0, 1),
}
SPECIAL["p"] = tuple(a | (b << 32) for a, b in zip(SPECIAL["f"], reversed(SPECIAL["f"]), strict=True))
WIDTH = {"f": 32, "d": 64, "h": 16, "u": 32, "q": 64, "w": 16, "m": 1, "p": 64}
_MOST = 1600
"""Of combinations of special values: a sample where there are more."""


def _random(kind: str, random: Random) -> int:
    """Bits; of floats half of them near 1, so that sums and products meet."""
    if kind in "fp" and random.random() < 0.5:
        halves = [
            random.getrandbits(24) | (random.randrange(0x70, 0x8F) << 23) | (random.getrandbits(1) << 31) for _ in "ab"
        ]
        return halves[0] | (halves[1] << 32 if kind == "p" else 0)
    if kind == "d" and random.random() < 0.5:
        return random.getrandbits(52) | (random.randrange(0x3F0, 0x40F) << 52) | (random.getrandbits(1) << 63)
    return random.getrandbits(WIDTH[kind])


def tries(kinds: str, seed: int, count: int = 256) -> list[tuple[int, ...]]:
    """Tuples of bits, one for each kind: specials against each other, then random; of one operand of 16 bits all."""
    random = Random(seed)
    if kinds in ("w", "h"):
        return [(x,) for x in range(1 << 16)]
    every = list(product(*(SPECIAL[kind] for kind in kinds)))
    if len(every) > _MOST:
        every = random.sample(every, _MOST)
    return every + [tuple(_random(kind, random) for kind in kinds) for _ in range(count)]
