"""Which rows a prefill is timed on: words of a command line, and the grids that others publish times for."""

from __future__ import annotations

from random import Random

from gdn_verify.cases.contract import Geometry

Lengths = tuple[int, ...]

MIX = "mix32"
_MIX_SEED, _MIX_ROWS, _MIX_SHORTEST, _MIX_LONGEST = 32, 32, 17, 2000


def lengths(words: str) -> list[Lengths]:
    """Lengths of the rows of each launch: "4x8192,17+64+2000,mix32" are three. Raises ValueError for other words."""
    return [mix() if one == MIX else _launch(one) for one in words.split(",")]


def mix() -> Lengths:
    """32 rows of 17 to 2000 tokens, always the same."""
    random = Random(_MIX_SEED)
    return tuple(random.randint(_MIX_SHORTEST, _MIX_LONGEST) for _ in range(_MIX_ROWS))


def _launch(words: str) -> Lengths:
    return tuple(length for term in words.split("+") for length in _term(term, words))


def _term(term: str, words: str) -> Lengths:
    """ "4x8192" or "17"."""
    count, _, length = term.rpartition("x")
    try:
        return (int(length),) * int(count or 1)
    except ValueError:
        raise ValueError(f"rows={words!r}: give ROWSxTOKENS, TOKENS, sums of these with +, or {MIX}") from None


Point = tuple[Geometry, Lengths]


def grid(name: str) -> list[Point]:
    """Geometries and rows of a published benchmark. Raises ValueError for a name that is none."""
    if name not in GRIDS:
        raise ValueError(f"grid={name!r} is not one of {', '.join(GRIDS)}")
    return GRIDS[name]


def _fla() -> list[Point]:
    """The shapes (B, T, H, D) of flash-linear-attention's benchmarks/ops/registry.py, August 2026."""
    shapes = (
        (1, 8192, 96, 128),
        (2, 16384, 16, 128),
        (4, 2048, 16, 128),
        (4, 4096, 64, 128),
        (8, 2048, 32, 256),
        (8, 1024, 8, 64),
    )
    return [(Geometry(H, H, D, D), (T,) * B) for B, T, H, D in shapes]


def _flashinfer() -> list[Point]:
    """Heads and rows of flashinfer's benchmarks/bench_gdn_prefill.py, August 2026."""
    heads = ((2, 8), (4, 16), (8, 32), (16, 64), (16, 32), (16, 48), (16, 16), (32, 32))
    single = "1x65536,1x32768,1x16384,1x8192,1x4096,1x2048"
    several = "6144+2048,4096+4096,2048+6144,1024+7168,4x2048,8x1024,8x8192,16x8192,32x8192"
    return [(Geometry(H, HV, 128, 128), rows) for H, HV in heads for rows in lengths(f"{single},{several}")]


GRIDS = {"fla": _fla(), "flashinfer": _flashinfer()}
