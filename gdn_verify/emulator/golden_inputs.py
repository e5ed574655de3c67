"""The inputs of the golden vectors: where rounding, overflow and approximation are decided."""

import math
from dataclasses import dataclass

import torch

BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
COUNT = 64
_AWKWARD = (0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0)
EXACT = 0.0


@dataclass(frozen=True)
class Group:
    """Vectors of one operation: input tensors of one shape, and the type of the result.

    `bound` is in units in the last place of the expected value; for `summed` groups, which are dots of
    random numbers, in units of 2^-24·(|a| @ |b|), as the order of additions is each device's own.
    """

    name: str
    operation: str
    inputs: tuple[torch.Tensor, ...]
    dtype: torch.dtype
    bound: float = EXACT
    summed: bool = False


def groups() -> list[Group]:
    """Every group, in a fixed order; the same bits on every machine with one torch version."""
    return [*_casts(), *_exact_arithmetic(), *_approximations(), *_dots()]


def _fill(values: list[float], dtype: torch.dtype, seed: int, low: float = -8, high: float = 8) -> torch.Tensor:
    """These values first, then uniform ones up to COUNT elements."""
    generator = torch.Generator().manual_seed(seed)
    rest = torch.rand(COUNT - len(values), generator=generator, dtype=F64) * (high - low) + low
    return torch.cat([torch.tensor(values, dtype=F64), rest]).to(dtype)


def _many_scales(dtype: torch.dtype, seed: int, exponent: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(COUNT, generator=generator, dtype=F64)
    scales = torch.randint(-exponent, exponent, (COUNT,), generator=generator).double()
    values = values * scales.exp2()
    values[: len(_AWKWARD)] = torch.tensor(_AWKWARD, dtype=F64)
    return values[torch.randperm(COUNT, generator=generator)].to(dtype)


def _from_bits(*bits: int) -> torch.Tensor:
    signed = [b - (1 << 32) if b >> 31 else b for b in bits]
    return torch.tensor(signed, dtype=torch.int32).view(F32)


# -- casts ---------------------------------------------------------------------------------------------


def _around_ties() -> torch.Tensor:
    """float32 numbers below, at and above bfloat16's midpoints; subnormals, overflow, infinities, NaN."""
    heads = (0x3F80, 0x3F81, 0xBF80, 0xBF81, 0x0000, 0x0001, 0x8001, 0x007F, 0x7F7F, 0xFF7F, 0x42FE, 0x1234)
    ties = [head << 16 | low for head in heads for low in (0x0000, 0x7FFF, 0x8000, 0x8001)]
    special = [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x80000000, 0x00000001, 0x7F7FFFFF, 0x33800000]
    return _from_bits(*ties, *special, *(0x40490FDB + 77777 * i for i in range(8)))


def _around_half_ties() -> torch.Tensor:
    """The same for float16: its midpoints, its largest number and its subnormals."""
    midpoints = [1 + 2**-11, 1 + 3 * 2**-11, 65504, 65519.99, 65520, 1e6, 2**-24, 2**-25, 1.5 * 2**-25, 2**-26]
    near = [x * (1 + s * 2**-20) for x in midpoints for s in (-1, 1)]
    return _fill([*_AWKWARD, *midpoints, *near], F32, seed=1)


def _casts() -> list[Group]:
    double = _around_ties().double() * (1 + 2**-40)
    integers = torch.tensor([(i * 2654435761) % 2**32 - 2**31 >> (i % 24) for i in range(COUNT)], dtype=torch.int32)
    return [
        Group("cast_f32_bf16", "cast", (_around_ties(),), BF16),
        Group("cast_f32_bf16_rtz", "cast_rtz", (_around_ties(),), BF16),
        Group("cast_f64_bf16", "cast", (double,), BF16),
        Group("cast_i32_bf16", "cast", (integers,), BF16),
        Group("cast_bf16_f32", "cast", (_around_ties().to(BF16),), F32),
        Group("cast_f16_bf16", "cast", (_around_half_ties().half(),), BF16),
        Group("cast_f32_f16", "cast", (_around_half_ties(),), F16),
        Group("cast_f16_f32", "cast", (_around_half_ties().half(),), F32),
        Group("cast_bf16_f16", "cast", (_around_half_ties().to(BF16),), F16),
    ]


# -- arithmetic ----------------------------------------------------------------------------------------


def _exact_arithmetic() -> list[Group]:
    names = {BF16: "bf16", F16: "f16", F32: "f32"}
    result = []
    for dtype, name in names.items():
        x, y, z = (_many_scales(dtype, seed) for seed in (2, 3, 4))
        result += [Group(f"{op}_{name}", op, (x, y), dtype) for op in ("add", "sub", "mul")]
        result.append(Group(f"fma_{name}", "fma", (x, y, z), dtype))
        result.append(Group(f"maximum_{name}", "maximum", (x, y), dtype))
    x, y = _many_scales(F32, 5), _many_scales(F32, 6)
    tiny = [2.0**-126, 2.0**-130, 2.0**-149, -(2.0**-140), 3e-39, 1e-38, -2e-38, 1.1754942e-38]
    small, factor = _fill(tiny * 4, F32, 7), _fill([0.5, 0.25, 1.0, 3.0, 0.75, 1.5, 0.125, -0.5] * 4, F32, 8)
    return [
        *result,
        Group("add_f32_subnormal", "add", (small, small.flip(0).roll(32)), F32),
        Group("mul_f32_subnormal", "mul", (small, factor), F32),
        Group("div_rn_f32", "div_rn", (x, y), F32),
        Group("sqrt_rn_f32", "sqrt_rn", (x.abs(),), F32),
    ]


# -- approximations ------------------------------------------------------------------------------------


def _approximations() -> list[Group]:
    """The bounds follow from CUDA's documented errors, plus numpy's own half unit to one unit.

    exp is exp2(x·log2 e). For |x| up to 88.7 the product is below 128 and off by 2^-18 (half its spacing) and
    another 128 · 1.3e-8 (log2 e rounded to float32), together 3.8e-6 of the result: 64 units in the last
    place where they are smallest, 2^-24, and 2 more each of ex2.approx and of numpy. 1 + exp and sigmoid see
    that of |x| <= 16, about 11 units of exp.
    """
    wide = _fill([*_AWKWARD, 80, -80, 88.7, -87.3, 1e-8, -1e-8, 0.5, -0.5], F32, seed=9, low=-80, high=80)
    medium = _fill([*_AWKWARD, 1e-8, -1e-8, 16, -16], F32, seed=10, low=-16, high=16)
    powers = _fill([*_AWKWARD, 127, -126, 0.5, -0.5, 2.0**-20], F32, seed=11, low=-120, high=120)
    positive = _many_scales(F32, 12, exponent=30).abs()
    near_one = _fill([1.0, 1 + 2.0**-23, 1 - 2.0**-24, 2.0, 0.5, 1e-30, 1e30], F32, seed=13, low=0.9, high=1.1)
    x, y = _many_scales(F32, 14, exponent=20), _many_scales(F32, 15, exponent=20)
    return [
        Group("exp", "exp", (wide,), F32, bound=68),
        Group("exp2", "exp2", (powers,), F32, bound=4),
        Group("log", "log", (positive,), F32, bound=4),
        Group("log_near_one", "log", (near_one,), F32, bound=4),
        Group("log2", "log2", (positive,), F32, bound=4),
        Group("log2_near_one", "log2", (near_one,), F32, bound=4),
        Group("rsqrt", "rsqrt", (positive,), F32, bound=4),
        Group("sqrt", "sqrt", (positive,), F32, bound=2),
        Group("sigmoid", "sigmoid", (medium,), F32, bound=16),
        Group("one_plus_exp", "one_plus_exp", (medium,), F32, bound=14),
        Group("div", "div", (x, y), F32, bound=3),
    ]


# -- dots ----------------------------------------------------------------------------------------------


def _tile(seed: int) -> torch.Tensor:
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(seed))


def _integer_tile(seed: int) -> torch.Tensor:
    return torch.randint(-8, 9, (16, 16), generator=torch.Generator().manual_seed(seed)).float()


def _dots() -> list[Group]:
    """Small integers, whose sums are exact in every order; random numbers; and TF32's cut by itself."""
    result = []
    for name, dtype in {"bf16": BF16, "f16": F16, "f32": F32}.items():
        exact = (_integer_tile(16).to(dtype), _integer_tile(17).to(dtype))
        random = (_tile(18).to(dtype), _tile(19).to(dtype))
        result.append(Group(f"dot_integers_{name}", "dot_ieee", exact, F32))
        result.append(Group(f"dot_random_{name}", "dot_ieee", random, F32, bound=32, summed=True))
    # Against the identity, each element of the product is one operand as the tensor core read it.
    result.append(Group("dot_tf32_left", "dot_tf32", (_tile(20), torch.eye(16)), F32))
    result.append(Group("dot_tf32_right", "dot_tf32", (torch.eye(16), _tile(21)), F32))
    return result
