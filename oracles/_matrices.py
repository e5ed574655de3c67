"""Small matrices for compiled code that works in chunks: products with the roundings of their sums, and gates.

A function that takes `noise` and a site rounds there; where the site is silent it is exact, to the bit.
"""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np

from ._compiled import helper
from ._noise import jolted, jolted_on_grid, rounded, silent, stream, walked
from .sites import Site

LEAST_GATE = -800.0  # e^-800 is zero in float64; a lower gate changes nothing but makes -inf - -inf of G


@helper
def transposed(x: Any) -> Any:
    out = np.empty((x.shape[1], x.shape[0]))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j, i] = x[i, j]
    return out


@helper
def copied(x: Any) -> Any:
    out = np.empty(x.shape)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j]
    return out


@helper
def scaled(x: Any, factor: Any) -> Any:
    """Row i of `x` times factor_i, as a new array."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * factor[i]
    return out


@helper
def plus(x: Any, sign: Any, y: Any) -> Any:
    """x + sign y, in place of x."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] += sign * y[i, j]
    return x


@helper
def round_all(x: Any, noise: Any, site: Any) -> Any:
    """`x` after the rounding of `site`, in place."""
    if not silent(noise, site):
        flat, u, eta = x.reshape(-1), noise[0][site, 0], noise[0][site, 1]
        start = stream(noise, site)
        for i in range(len(flat)):
            flat[i] = jolted(flat[i], u, eta, start)
    return x


@helper
def round_below(x: Any, below: Any, noise: Any, site: Any) -> None:
    """Square `x` after the rounding of `site` where j ≤ i - below, in place; the rest is exact."""
    if silent(noise, site):
        return
    u, eta, start = noise[0][site, 0], noise[0][site, 1], stream(noise, site)
    for i in range(len(x)):
        for j in range(i + 1 - below):
            x[i, j] = jolted(x[i, j], u, eta, start)


@helper
def snapshot(h: Any, noise: Any) -> Any:
    """A copy of the state as an operand."""
    copy = copied(h)
    if not silent(noise, Site.H_SNAPSHOT):
        u, eta = noise[0][Site.H_SNAPSHOT, 0], noise[0][Site.H_SNAPSHOT, 1]
        start, flat = stream(noise, Site.H_SNAPSHOT), copy.reshape(-1)
        for i in range(len(flat)):
            flat[i] = jolted_on_grid(flat[i], u, eta, start)
    return copy


@helper
def product(a: Any, b: Any, lower: Any, noise: Any, site: Any) -> Any:
    """a @ b with the roundings of its accumulation; `lower` skips what a zero above a's diagonal gives.

    A skipped step is also no rounding, so the first rows of a triangular product carry less noise.
    """
    out, squares, start = np.empty((len(a), b.shape[1])), np.empty(b.shape[1]), stream(noise, site)
    for i in range(len(a)):
        sum_rows(a, i, i + 1 if lower else a.shape[1], b, out[i], squares, noise, site, start)
    return out


@helper
def accumulate(a: Any, b: Any, into: Any, lower: Any, noise: Any, site: Any) -> Any:
    """`into` + a @ b in its place, with the roundings of a sum that begins there; `lower` as in `product`."""
    squares, start = np.empty(b.shape[1]), stream(noise, site)
    for i in range(len(a)):
        add_rows(a, i, i + 1 if lower else a.shape[1], b, into[i], squares, noise, site, start)
    return into


@helper
def sum_rows(a: Any, i: Any, steps: Any, b: Any, row: Any, squares: Any, noise: Any, site: Any, start: Any) -> None:
    """row ← Σ_{l<steps} a_il b_l with the roundings of the sum; `squares` is scratch."""
    row[:] = 0.0
    add_rows(a, i, steps, b, row, squares, noise, site, start)


@helper
def add_rows(a: Any, i: Any, steps: Any, b: Any, row: Any, squares: Any, noise: Any, site: Any, start: Any) -> None:
    """row ← row + Σ_{l<steps} a_il b_l with the roundings of a sum that begins at `row`; `squares` is scratch."""
    factors = a[i, :steps]
    if silent(noise, site):
        add_products(factors, b, row)
        return
    squares[:] = 0.0
    walk_products(factors, b, row, squares)
    u, eta = noise[0][site, 0], noise[0][site, 1]
    for j in range(len(row)):
        row[j] = walked(row[j], squares[j], u, eta, start)


@helper
def add_products(factors: Any, b: Any, row: Any) -> None:
    """row ← row + Σ_l factors_l b_l, in order of l; four at a time, so that `row` is read and stored once for them."""
    whole = len(factors) - len(factors) % 4
    for l in range(0, whole, 4):
        f0, f1, f2, f3 = factors[l], factors[l + 1], factors[l + 2], factors[l + 3]
        b0, b1, b2, b3 = b[l], b[l + 1], b[l + 2], b[l + 3]
        for j in range(len(row)):
            row[j] = (((row[j] + f0 * b0[j]) + f1 * b1[j]) + f2 * b2[j]) + f3 * b3[j]
    for l in range(whole, len(factors)):
        factor = factors[l]
        for j in range(len(row)):
            row[j] += factor * b[l, j]


@helper
def walk_products(factors: Any, b: Any, row: Any, squares: Any) -> None:
    """`add_products` that adds product² + partial sum² of each step to `squares`."""
    whole = len(factors) - len(factors) % 4
    for l in range(0, whole, 4):
        f0, f1, f2, f3 = factors[l], factors[l + 1], factors[l + 2], factors[l + 3]
        b0, b1, b2, b3 = b[l], b[l + 1], b[l + 2], b[l + 3]
        for j in range(len(row)):
            p0, p1, p2, p3 = f0 * b0[j], f1 * b1[j], f2 * b2[j], f3 * b3[j]
            s0 = row[j] + p0
            s1 = s0 + p1
            s2 = s1 + p2
            s3 = s2 + p3
            first = (squares[j] + (p0 * p0 + s0 * s0)) + (p1 * p1 + s1 * s1)
            squares[j] = (first + (p2 * p2 + s2 * s2)) + (p3 * p3 + s3 * s3)
            row[j] = s3
    for l in range(whole, len(factors)):
        factor = factors[l]
        for j in range(len(row)):
            product = factor * b[l, j]
            row[j] += product
            squares[j] += product * product + row[j] * row[j]


@helper
def cumulative(g: Any, noise: Any) -> Any:
    """G_i = g_1 + … + g_i: partial sums hand their roundings on, and each G_i is rounded again as an exponent."""
    G, total = np.empty_like(g), 0.0
    for i in range(len(g)):
        total = rounded(total + max(g[i], LEAST_GATE), noise, Site.CUMGATE)
        G[i] = total
    return round_all(G, noise, Site.CUMGATE)


@helper
def decay_of(exponent: Any, noise: Any) -> Any:
    """exp of a difference that rounds, each by itself: decays need not multiply up as those of one G do."""
    return exp(rounded(exponent, noise, Site.DECAY_EXPONENT))


@helper
def decays_between(G: Any, noise: Any) -> Any:
    """e^{G_i-G_j} for j ≤ i, else 0. The diagonal is 1 in every type and does not round."""
    between = np.zeros((len(G), len(G)))
    for i in range(len(G)):
        for j in range(i):
            between[i, j] = decay_of(G[i] - G[j], noise)
    round_below(between, 1, noise, Site.GATE_EXP)
    for i in range(len(G)):
        between[i, i] = 1.0
    return between


@helper
def decays(G: Any, noise: Any) -> Any:
    """e^G, e^(G_last - G), and e^(G_i - G_j) for j ≤ i."""
    from_start, to_end = np.empty_like(G), np.empty_like(G)
    for i in range(len(G)):
        from_start[i], to_end[i] = decay_of(G[i], noise), decay_of(G[-1] - G[i], noise)
    round_all(from_start, noise, Site.GATE_EXP)
    round_all(to_end, noise, Site.GATE_EXP)
    return from_start, to_end, decays_between(G, noise)


@helper
def masked(products: Any, between: Any, factor: Any, below: Any, noise: Any, site: Any) -> Any:
    """factor_i · products_ij · e^{G_i-G_j} for j ≤ i - below, else 0."""
    masked = np.zeros_like(products)
    for i in range(len(products)):
        for j in range(i + 1 - below):
            masked[i, j] = factor[i] * products[i, j] * between[i, j]
    round_below(masked, below, noise, site)
    return masked
