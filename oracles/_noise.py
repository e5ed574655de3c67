"""Monte Carlo arithmetic for compiled code: hashed random numbers and the perturbation of a value.

Rounding is a function: where a number comes back, its rounding error does too, and a row of equal tokens adds up
coherently what independent draws would average away. So a draw is a hash of (seed, run, site, significand of the
value): equal values round alike, whatever their place, sign and power of two. It does not depend on the number of
runs, on the thread that draws it, or on which other sites are active. `noise` is the pair (levels, key) of one run:
levels[site] = (u, eta), all zero for the clean run 0.

A state that a weak decay moves by an ulp a token is rounded the same way token after token, and a library's exp errs
alike for decays that are nearly equal: such values share a draw while they stay within 2^DRIFT roundoffs, beside one
of their own (`jolted_slowly`). Without the latter a common factor would keep the differences between large, nearly
equal elements of a state, which rounding to a grid absorbs.
"""

from __future__ import annotations

from math import log2, sqrt
from typing import Any

import numpy as np

from ._compiled import helper

# splitmix64 (Steele, Lea, Flood 2014): one step per draw is enough, as the counter is spread by GOLDEN.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
BITS_27, BITS_30, BITS_31, BITS_32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
SIGNIFICAND = np.uint64((1 << 52) - 1)
DRIFT = 8  # as a power of two
LEAST = 8  # bits that always count, or a narrow type would round all values alike
NORMAL = 2.0**11  # the least normal number of float16, 2^-14, in units of its eta; those of wider types have no say
UNIT = 2.0**-31  # a signed 32-bit integer to [-1, 1)


@helper
def _mix(x: Any) -> Any:
    x = (x ^ (x >> BITS_30)) * MIX_1
    x = (x ^ (x >> BITS_27)) * MIX_2
    return x ^ (x >> BITS_31)


@helper
def noise_of(run: Any, sites: Any, seed: Any) -> Any:
    """The pair (levels, key) of `run`; run 0 is clean."""
    levels = sites.copy() if run > 0 else np.zeros_like(sites)  # its own: threads would share a refcount
    return levels, _mix(_mix(np.uint64(seed)) + np.uint64(run) * GOLDEN)


@helper
def silent(noise: Any, site: Any) -> Any:
    """True where `site` leaves every value as it is."""
    return noise[0][site, 0] == 0.0 and noise[0][site, 1] == 0.0


@helper
def stream(noise: Any, site: Any) -> Any:
    """Start of the random numbers of one site."""
    return _mix(noise[1] ^ (np.uint64(site + 1) * GOLDEN))


@helper
def draw(start: Any, x: Any) -> Any:
    """64 random bits for the significand of `x` at the site that starts at `start`."""
    return _mix(start + (np.float64(x).view(np.uint64) & SIGNIFICAND) * GOLDEN)


@helper
def high(bits: Any) -> Any:
    """Uniform in [-1, 1) from the upper half of `bits`."""
    return np.int32(bits >> BITS_32) * UNIT


@helper
def low(bits: Any) -> Any:
    """Uniform in [-1, 1) from the lower half of `bits`."""
    return np.int32(bits) * UNIT


@helper
def jolted(x: Any, u: Any, eta: Any, start: Any) -> Any:
    """x (1 + u eps) + eta eps', and a denormal x rounded for real besides.

    Many denormals lie on their type's grid. Half of one, which silu makes of a small number, is there or is a tie, and
    the little that silu adds breaks all ties one way: no errors of random sign add up to that.
    """
    bits = draw(start, x)
    jolt = x * (1.0 + u * high(bits)) + eta * low(bits)
    if abs(x) < NORMAL * eta:
        return jolt + (np.rint(x / (2.0 * eta)) * (2.0 * eta) - x)
    return jolt


@helper
def steady_bits(u: Any) -> Any:
    """The leading bits of a significand that tell values more than about 2^DRIFT u apart."""
    kept = 52 if u == 0.0 else min(max(int(-log2(u)) - DRIFT, LEAST), 52)
    return SIGNIFICAND ^ ((np.uint64(1) << np.uint64(52 - kept)) - np.uint64(1))


@helper
def jolted_slowly(x: Any, u: Any, eta: Any, start: Any, steady: Any) -> Any:
    """`jolted`, with a second draw for all values that agree in their `steady_bits`, if those are not all bits."""
    bits = _mix(start + (np.float64(x).view(np.uint64) & steady) * GOLDEN)
    own = 0.0 if steady == SIGNIFICAND else high(draw(bits, x))
    return x * (1.0 + u * (high(bits) + own)) + eta * low(bits)


@helper
def rounded(x: Any, noise: Any, site: Any) -> Any:
    """Scalar `x` after the rounding of `site`."""
    if silent(noise, site):
        return x
    return jolted(x, noise[0][site, 0], noise[0][site, 1], stream(noise, site))


@helper
def jolted_on_grid(x: Any, u: Any, eta: Any, start: Any) -> Any:
    """`jolted` after a rounding for real, to the nearest number of roundoff u (a power of two; Veltkamp's splitting).

    For values that lie near the type's own grid, as a pool's do: what a small common change moves them by is cut off
    from all of them alike, and no error of random sign adds up to that.
    """
    scaled = x * (2.0**53 * u + 1.0)
    return jolted(x, u, eta, start) + ((scaled - (scaled - x)) - x)


@helper
def rounded_slowly(x: Any, noise: Any, site: Any) -> Any:
    """`rounded` where nearly equal values err alike: see `jolted_slowly`."""
    if silent(noise, site):
        return x
    u = noise[0][site, 0]
    return jolted_slowly(x, u, noise[0][site, 1], stream(noise, site), steady_bits(u))


@helper
def walked(x: Any, squares: Any, u: Any, eta: Any, start: Any) -> Any:
    """Sum `x` after the roundings of its accumulation, modelled as a random walk.

    `squares` is the sum over the steps of product² + partial sum². Each step rounds its product and its
    partial sum by up to u of them, independently, so the walk's amplitude is u sqrt(squares).
    """
    bits = draw(draw(start, x), squares)
    return x + u * sqrt(squares) * high(bits) + eta * low(bits)


@helper
def summed(x: Any, squares: Any, noise: Any, site: Any) -> Any:
    """`rounded` for a sum: see `walked`."""
    if silent(noise, site):
        return x
    return walked(x, squares, noise[0][site, 0], noise[0][site, 1], stream(noise, site))
