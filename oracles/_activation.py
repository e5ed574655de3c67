"""Sigmoid and softplus with the roundings that happen inside them."""

from __future__ import annotations

from math import exp, log1p
from typing import Any

from ._compiled import helper
from ._noise import draw, high, jolted, silent, stream
from .sites import Site


@helper
def sigmoid(x: Any, noise: Any, site: Any) -> Any:
    """1 / (1 + exp(-x)). The site moves the argument of exp by |x| u, then the result."""
    if silent(noise, site):
        return _sigmoid(x)
    u, start = noise[0][site, 0], stream(noise, site)
    moved = x * (1.0 + u * high(draw(start, x)))
    return jolted(_sigmoid(moved), u, noise[0][site, 1], start)


@helper
def sigmoids(x: Any, out: Any, noise: Any, site: Any) -> None:
    """`sigmoid` of a row into `out`, a loop for each of its steps: all but exp then take several elements at once."""
    u, eta, start, exact = noise[0][site, 0], noise[0][site, 1], stream(noise, site), silent(noise, site)
    for i in range(len(x)):
        out[i] = x[i] if exact else x[i] * (1.0 + u * high(draw(start, x[i])))
    for i in range(len(x)):
        out[i] = _sigmoid(out[i])
    if not exact:
        for i in range(len(x)):
            out[i] = jolted(out[i], u, eta, start)


@helper
def softplus(x: Any, threshold: Any, noise: Any) -> Any:
    """log(1 + exp(x)), or x above `threshold`. The site multiplies the inner sum by 1 + u eps."""
    if x > threshold:
        return x
    exact = max(x, 0.0) + log1p(exp(-abs(x)))
    if silent(noise, Site.SOFTPLUS):
        return exact
    start = stream(noise, Site.SOFTPLUS)
    moved = exact + log1p(noise[0][Site.SOFTPLUS, 0] * high(draw(start, exact)))
    return jolted(moved, 0.0, noise[0][Site.SOFTPLUS, 1], start)


@helper
def _sigmoid(x: Any) -> Any:
    small = exp(-abs(x))  # never overflows
    return 1.0 / (1.0 + small) if x >= 0.0 else small / (1.0 + small)
