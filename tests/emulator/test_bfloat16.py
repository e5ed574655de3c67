"""Contract: every operation of the interpreter is right for bfloat16, or raises."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import emulated
import pytest
import torch

BF16 = torch.bfloat16
RunsThere = Callable[..., Any]


def operations(names: str) -> set[str]:
    return {f"create_{name}" for name in names.split()}


# By what they do to bfloat16; a new operation fails `test_every_builder_operation_is_accounted_for` until decided.
UNARY = operations("ceil cos erf exp exp2 fabs floor log log2 rsqrt sin sqrt precise_sqrt")
BINARY = operations("fadd fsub fmul fdiv frem precise_divf")
EXTREMA = operations("minimumf minnumf maximumf maxnumf")
COMPARISONS = operations(
    "fcmpOLT fcmpOGT fcmpOLE fcmpOGE fcmpOEQ fcmpONE fcmpULT fcmpUGT fcmpULE fcmpUGE fcmpUEQ fcmpUNE"
)
CASTS = operations("fp_ext fp_trunc fp_to_fp si_to_fp ui_to_fp fp_to_si fp_to_ui")
OWN_TESTS = operations("fma fneg clampf dot tensor_pointer_load")
REFUSING = operations("dot_scaled atomic_rmw atomic_cas inline_asm extern_elementwise")
MOVING_BITS = operations(
    "load masked_load store masked_store tensor_pointer_store bitcast select reshape trans expand_dims "
    "broadcast cat join split splat unsplat gather descriptor_load descriptor_store descriptor_gather "
    "descriptor_scatter make_block_ptr advance make_tensor_descriptor print"
)
WITHOUT_FLOATS = operations(
    "add sub mul sdiv udiv idiv srem urem shl lshr ashr and or xor minsi minui maxsi maxui umulhi iabs "
    "icmpSLE icmpSLT icmpSGE icmpSGT icmpULE icmpULT icmpUGE icmpUGT icmpEQ icmpNE int_cast int_to_ptr "
    "ptr_to_int make_range histogram addptr assert assume barrier get_program_id get_num_programs"
)


def test_every_builder_operation_is_accounted_for(interpreted: RunsThere) -> None:
    """An operation nobody has classified may compute on bit patterns."""
    known = UNARY | BINARY | EXTREMA | COMPARISONS | CASTS | OWN_TESTS | REFUSING | MOVING_BITS | WITHOUT_FLOATS
    assert interpreted(emulated.builder_methods) - known == set()


def bf16(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=BF16)


def every_bf16() -> torch.Tensor:
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(BF16)


def random_bf16(count: int, seed: int) -> torch.Tensor:
    """Numbers of many magnitudes, with the awkward ones first."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator) * 2.0 ** torch.randint(-12, 12, (count,), generator=generator)
    values[:8] = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-39, 3.4e38, -1.0])
    return values[torch.randperm(count, generator=generator)].to(BF16)


def assert_same_bits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal, telling -0.0 from 0.0; every NaN equals every other."""
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
    number = ~expected.isnan() if expected.is_floating_point() else torch.ones_like(expected, dtype=torch.bool)
    if expected.is_floating_point():
        assert torch.equal(actual.signbit()[number], expected.signbit()[number])


# -- casts ---------------------------------------------------------------------------------------------


def float32_around_bf16() -> torch.Tensor:
    """Every bfloat16, and the float32 numbers just below, at and just above each midpoint."""
    high = every_bf16().view(torch.int16).to(torch.int32) << 16
    return torch.cat([high + low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).view(torch.float32)


@pytest.mark.parametrize("method", ["create_fp_trunc", "create_fp_to_fp"])
def test_float32_rounds_to_nearest_even(interpreted: RunsThere, method: str) -> None:
    """Ties, subnormals, infinities and NaN; overflow to infinity."""
    source = float32_around_bf16()
    rest = (None,) if method == "create_fp_to_fp" else ()
    assert_same_bits(interpreted(emulated.cast, method, source, "bf16", *rest), source.to(BF16))


def test_bfloat16_widens_exactly(interpreted: RunsThere) -> None:
    """All 65536 of them."""
    source = every_bf16()
    assert_same_bits(interpreted(emulated.cast, "create_fp_ext", source, "fp32"), source.float())


def test_float64_is_rounded_once(interpreted: RunsThere) -> None:
    """1 + 2^-8 + 2^-40 is above a tie that rounding to float32 first would create."""
    tie = 1 + 2**-8
    values = [tie + 2**-40, tie - 2**-40, 1e300, -1e-300, math.inf, math.nan, 3.39e38]
    source = torch.tensor(values, dtype=torch.float64)
    expected = bf16(1 + 2**-7, 1.0, math.inf, -0.0, math.inf, math.nan, 3.3895e38)
    assert_same_bits(interpreted(emulated.cast, "create_fp_trunc", source, "bf16"), expected)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_integers_are_rounded_once(interpreted: RunsThere, dtype: torch.dtype) -> None:
    """2^24 + 2^16 + 1 is above a tie; float32 would put it on the tie."""
    source = torch.tensor([0, 1, -1, 257, 259, -769, 2**31 - 1, 2**24 + 2**16 + 1], dtype=dtype)
    expected = bf16(0, 1, -1, 256, 260, -768, 2**31, 2**24 + 2**17)
    assert_same_bits(interpreted(emulated.cast, "create_si_to_fp", source, "bf16"), expected)


@pytest.mark.parametrize(("method", "name"), [("create_fp_to_si", "i32"), ("create_fp_to_ui", "u8")])
def test_bfloat16_to_integer_truncates(interpreted: RunsThere, method: str, name: str) -> None:
    """Toward zero, by value and not by bit pattern."""
    source = bf16(0, 1.5, 2.984375, 100)
    assert interpreted(emulated.cast, method, source, name).tolist() == [0, 1, 2, 100]


def test_float16_and_bfloat16_convert_by_value(interpreted: RunsThere) -> None:
    """Both directions, rounding to nearest even."""
    half = torch.tensor([1.0009765625, 65504, 6e-8, -0.0, math.inf], dtype=torch.float16)
    assert_same_bits(interpreted(emulated.cast, "create_fp_trunc", half, "bf16"), half.to(BF16))
    brain = bf16(1.0078125, 70000, 1e-7, -0.0, -math.inf)
    assert_same_bits(interpreted(emulated.cast, "create_fp_trunc", brain, "fp16"), brain.half())


def test_rounding_toward_zero(interpreted: RunsThere) -> None:
    """When the kernel asks for it; overflow stops at the largest finite number."""
    x = torch.tensor([1 + 1.5 * 2**-7, -1 - 1.5 * 2**-7, 3.4e38, math.inf, math.nan, 1 + 1.5 * 2**-10, -65520, 2**-25])
    to_bf16 = bf16(1 + 2**-7, -1 - 2**-7, 3.3895e38, math.inf, math.nan, 1, -65280, 2**-25)
    to_f16 = torch.tensor([1 + 12 * 2**-10, -1 - 12 * 2**-10, 65504, math.inf, math.nan, 1 + 2**-10, -65504, 0])
    assert_same_bits(interpreted(emulated.expression, "toward_zero", x, x, x, BF16), to_bf16)
    assert_same_bits(interpreted(emulated.expression, "toward_zero", x, x, x, torch.float16), to_f16.half())


# -- arithmetic ----------------------------------------------------------------------------------------

FLOAT32_REFERENCE: dict[str, Callable[..., torch.Tensor]] = {
    "create_fadd": torch.add,
    "create_fsub": torch.sub,
    "create_fmul": torch.mul,
    "create_fdiv": torch.div,
    "create_precise_divf": torch.div,
    "create_frem": torch.fmod,
    "create_minimumf": torch.minimum,
    "create_maximumf": torch.maximum,
    "create_minnumf": torch.fmin,
    "create_maxnumf": torch.fmax,
    "create_ceil": torch.ceil,
    "create_floor": torch.floor,
    "create_fabs": torch.abs,
    "create_sqrt": torch.sqrt,
    "create_precise_sqrt": torch.sqrt,
    "create_rsqrt": lambda x: 1 / x.sqrt(),
    "create_exp": torch.exp,
    "create_exp2": torch.exp2,
    "create_log": torch.log,
    "create_log2": torch.log2,
    "create_sin": torch.sin,
    "create_cos": torch.cos,
    "create_erf": torch.erf,
}


@pytest.mark.parametrize("method", sorted(BINARY | EXTREMA))
def test_binary_operations_round_once(interpreted: RunsThere, method: str) -> None:
    """As float32 arithmetic on the widened numbers, rounded to nearest even."""
    x, y = random_bf16(4096, seed=1), random_bf16(4096, seed=2)
    expected = FLOAT32_REFERENCE[method](x.float(), y.float()).to(BF16)
    assert_same_bits(interpreted(emulated.build, method, [x, y]), expected)


@pytest.mark.parametrize("method", sorted(EXTREMA))
def test_extrema_tell_zeros_apart(interpreted: RunsThere, method: str) -> None:
    """-0.0 is below 0.0, in either order of the operands."""
    zeros = [torch.tensor([0.0, -0.0]), torch.tensor([-0.0, 0.0])]
    expected = torch.full((2,), 0.0 if "max" in method else -0.0)
    assert_same_bits(interpreted(emulated.build, method, zeros), expected)


@pytest.mark.parametrize("method", sorted(UNARY))
def test_unary_operations_round_once(interpreted: RunsThere, method: str) -> None:
    """Within one unit of bfloat16 for the transcendental ones, whose float32 values libraries differ on."""
    x = random_bf16(4096, seed=3)
    x = x[x.abs() < 1e4] if method in ("create_sin", "create_cos") else x
    actual, expected = interpreted(emulated.build, method, [x]), FLOAT32_REFERENCE[method](x.float()).to(BF16)
    assert torch.equal(actual.isnan(), expected.isnan())
    steps = (actual.view(torch.int16).int() - expected.view(torch.int16).int()).abs()[~expected.isnan()]
    assert steps.max() <= 1
    assert (steps != 0).float().mean() < 0.002


@pytest.mark.parametrize("method", sorted(COMPARISONS))
def test_comparisons_are_by_value(interpreted: RunsThere, method: str) -> None:
    """Ordered ones are false for NaN, unordered ones true; -0.0 equals 0.0."""
    x, y = random_bf16(4096, seed=4), random_bf16(4096, seed=5)
    y[::3] = x[::3]
    ordered = {"LT": x < y, "GT": x > y, "LE": x <= y, "GE": x >= y, "EQ": x == y, "NE": (x < y) | (x > y)}
    expected = ordered[method[-2:]]
    expected = expected | x.isnan() | y.isnan() if method[-3] == "U" else expected
    assert torch.equal(interpreted(emulated.build, method, [x, y]), expected)


def exact_fma(x: float, y: float, z: float, mantissa: int) -> Fraction:
    """x·y + z to nearest even with `mantissa` bits after the leading one; normal numbers only."""
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    if exact == 0:
        return exact
    unit = Fraction(2) ** (math.frexp(float(exact))[1] - 1 - mantissa)
    return round(exact / unit) * unit


@pytest.mark.parametrize(("dtype", "mantissa"), [(BF16, 7), (torch.float16, 10), (torch.float32, 23)])
def test_fma_rounds_once(interpreted: RunsThere, dtype: torch.dtype, mantissa: int) -> None:
    """Against exact rational arithmetic, with addends near ties."""
    generator = torch.Generator().manual_seed(6)
    x, y = (torch.randn(512, generator=generator).to(dtype) for _ in range(2))
    z = (x.double() * y.double() * torch.randn(512, generator=generator).exp2()).to(dtype)
    z[::2] = (z[::2].double() * 2.0**-mantissa).to(dtype)
    actual = interpreted(emulated.build, "create_fma", [x, y, z])
    expected = [exact_fma(*map(float, values), mantissa) for values in zip(x, y, z, strict=True)]
    normal = [abs(e) > 2**-14 for e in expected]
    assert sum(normal) > 450
    pairs = zip(actual.tolist(), expected, normal, strict=True)
    assert all(Fraction(a) == e for a, e, ok in pairs if ok)


def test_float32_fma_is_not_rounded_to_float64_first(interpreted: RunsThere) -> None:
    """The exact value lies 2^-56 below a tie of float32, nearer than float64 can tell."""
    x, y, z = 2**-12 * (1 + 2**-16), 2**-12 * (1 - 2**-16), 1 + 2**-23
    tensors = [torch.tensor([value]) for value in (x, y, z)]
    assert interpreted(emulated.build, "create_fma", tensors).item() == 1 + 2**-23


def test_float64_fma_rounds_once(interpreted: RunsThere) -> None:
    """The product's low half survives a cancellation."""
    x = torch.tensor([1 + 2.0**-30, math.inf, 0.0], dtype=torch.float64)
    z = torch.tensor([-1 - 2.0**-29, 1.0, -0.0], dtype=torch.float64)
    actual = interpreted(emulated.build, "create_fma", [x, x, z])
    assert actual.tolist() == [2.0**-60, math.inf, 0.0]


EXPRESSIONS: dict[str, Callable[..., torch.Tensor]] = {
    "add": lambda x, y, z: x + y,
    "sub": lambda x, y, z: x - y,
    "mul": lambda x, y, z: x * y,
    "div": lambda x, y, z: (x.float() / y.float()).to(BF16),
    "scale": lambda x, y, z: x * bf16(0.7),
    "shift": lambda x, y, z: x + bf16(0.3),
    "abs": lambda x, y, z: x.abs(),
    "less": lambda x, y, z: (x < y).to(BF16),
    "equal": lambda x, y, z: (x == y).to(BF16),
    "unequal": lambda x, y, z: (x != y).to(BF16),
    "where": lambda x, y, z: torch.where(x > y, x, z),
    "maximum": torch.fmax,
    "minimum": torch.fmin,
    "maximum_nan": torch.maximum,
    "clamp": lambda x, y, z: torch.fmin(torch.fmax(x, bf16(-1)), bf16(1)),
    "fma": lambda x, y, z: (x.double() * y.double() + z.double()).to(BF16),
    "full": lambda x, y, z: torch.full_like(x, 1.01),
    "sqrt": lambda x, y, z: x.float().sqrt().to(BF16),
}


def two_arguments(which: str, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    function = EXPRESSIONS[which]
    return function(x, y) if function in (torch.fmax, torch.fmin, torch.maximum) else function(x, y, z)


@pytest.mark.parametrize("which", sorted(EXPRESSIONS))
def test_expressions_in_a_kernel(interpreted: RunsThere, which: str) -> None:
    """Load, compute, store: as torch computes in bfloat16."""
    x, y, z = (random_bf16(1024, seed=s) for s in (7, 8, 9))
    y[::5] = x[::5]
    assert_same_bits(interpreted(emulated.expression, which, x, y, z, BF16), two_arguments(which, x, y, z))


def test_negation(interpreted: RunsThere) -> None:
    """Up to the sign of zero: Triton before 3.8 subtracts from 0."""
    x = random_bf16(1024, seed=7)
    actual = interpreted(emulated.expression, "neg", x, x, x, BF16)
    torch.testing.assert_close(actual, -x, rtol=0, atol=0, equal_nan=True)


def test_what_triton_does_not_compile_is_refused(interpreted: RunsThere) -> None:
    """exp takes float32 and float64."""
    x = bf16(1, 2)
    with pytest.raises(Exception, match="Expected dtype"):
        interpreted(emulated.expression, "exp_without_cast", x, x, x, BF16)


# -- dot -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [BF16, torch.float16, torch.float32])
def test_dot_of_small_integers_is_exact(interpreted: RunsThere, dtype: torch.dtype) -> None:
    """Every product and partial sum is representable, so every order gives these bits."""
    generator = torch.Generator().manual_seed(3)
    a, b, c = (torch.randint(-8, 8, (16, 16), generator=generator).float() for _ in range(3))
    actual = interpreted(emulated.dot, a.to(dtype), b.to(dtype), c)
    assert torch.equal(actual, a @ b + c)


@pytest.mark.parametrize("dtype", [BF16, torch.float16])
def test_dot_accumulates_in_float32(interpreted: RunsThere, dtype: torch.dtype) -> None:
    """Within 16 roundings of float32 of the exact value."""
    generator = torch.Generator().manual_seed(4)
    a, b = (torch.randn(16, 16, generator=generator).to(dtype) for _ in range(2))
    exact = a.double() @ b.double()
    bound = 17 * 2.0**-24 * (a.double().abs() @ b.double().abs())
    assert ((interpreted(emulated.dot, a, b, torch.zeros(16, 16)) - exact).abs() <= bound).all()


def test_float32_dot_is_exact_by_default(interpreted: RunsThere) -> None:
    """Bits beyond TF32 count, also where the kernel would allow TF32."""
    a = torch.eye(16) * (1 + 2.0**-20)
    assert torch.equal(interpreted(emulated.dot, a, torch.eye(16), torch.zeros(16, 16)), a)


# -- memory and refusals -------------------------------------------------------------------------------


def test_block_pointers_carry_bfloat16(interpreted: RunsThere) -> None:
    """Out-of-bounds lanes are padded with NaN and not stored."""
    x = torch.arange(15).reshape(3, 5).to(BF16)
    assert torch.equal(interpreted(emulated.add_one_by_block_pointer, x, 8), x + 1)


def test_bfloat16_atomics_are_refused(interpreted: RunsThere) -> None:
    """The error names the type; float32 works."""
    with pytest.raises(Exception, match="atomics on bf16 are not emulated"):
        interpreted(emulated.atomic_add, bf16(2))
    assert interpreted(emulated.atomic_add, torch.tensor([2.0])).item() == 4


@pytest.mark.parametrize("method", ["create_fadd", "create_fmul", "create_fcmpOLT", "create_fdiv"])
def test_fp8_arithmetic_is_refused(interpreted: RunsThere, method: str) -> None:
    """Rather than computed on bit patterns."""
    x = torch.ones(4, dtype=torch.uint8)
    with pytest.raises(NotImplementedError, match="fp8e4nv"):
        interpreted(emulated.build, method, [x, x])


def test_fp8_casts_are_refused(interpreted: RunsThere) -> None:
    """In both directions."""
    with pytest.raises(NotImplementedError, match="does not round to fp8e5"):
        interpreted(emulated.cast, "create_fp_to_fp", torch.ones(4), "fp8e5", None)
    with pytest.raises(NotImplementedError, match="does not compute in fp8e4nv"):
        interpreted(emulated.cast, "create_fp_to_fp", torch.ones(4, dtype=torch.uint8), "fp32", None)
