"""The causal convolution (contract, equation 1) and the rules of its state."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._activation import sigmoids
from ._checks import floats, noise_source, per_run, row_starts
from ._compiled import helper, kernel, run_tasks
from ._matrices import round_all
from ._noise import jolted, noise_of, silent, stream, walked
from .sites import Site


def causal_conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    history: np.ndarray,
    query_start_loc: np.ndarray,
    silu: bool,
    sites: np.ndarray | None = None,
    seed: int = 0,
    runs: int = 1,
    first: int = 0,
) -> np.ndarray:
    """y_t[d] = act(bias[d] + Σ_{w<W} weight[d, w] · x_{t-W+1+w}[d]) within each row.

    x [1|R, T, D]; weight [D, W], the newest tap last; bias [D] or None; history [N, D, W-1], the inputs
    before each row's first token, oldest first (see `conv_history`); query_start_loc [N+1].

    Returns y, float64 [R, T, D], zeros beyond query_start_loc[-1]. Raises ValueError naming the argument
    whose shape or dtype does not fit.
    """
    sites, seed = noise_source(sites, seed, runs)
    weight = floats("weight", weight, -1, -1)
    D, W = weight.shape
    x = per_run("x", x, runs, -1, D)
    bias = np.zeros(D) if bias is None else floats("bias", bias, D)
    starts = row_starts(query_start_loc, x.shape[1])
    history = floats("history", history, len(starts) - 1, D, W - 1)
    y = np.zeros((runs, *x.shape[1:]))
    row_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    tasks = runs * len(row_of)
    weight, history = np.ascontiguousarray(weight.T), np.ascontiguousarray(history.transpose(0, 2, 1))
    run_tasks(
        _conv, tasks, tasks * D * W * 4, x, weight, bias, history, starts, row_of, bool(silu), sites, seed, first, y
    )
    return y


@kernel
def _conv(
    first: Any, last: Any, x: Any, weight: Any, bias: Any, history: Any, starts: Any, row_of: Any, silu: Any,
    sites: Any, seed: Any, first_run: Any, y: Any,
) -> None:  # fmt: skip
    """One task: one token of one run. `weight` is [W, D] and `history` [N, W-1, D], so that channels lie together."""
    W, D = weight.shape
    squares = np.empty(D)
    for task in range(first, last):
        run, t = task // len(row_of), task % len(row_of)
        inputs, past, start = x[min(run, len(x) - 1)], history[row_of[t]], starts[row_of[t]]
        noise = noise_of(first_run + run, sites, seed)
        out = y[run, t]
        out[:] = bias
        squares[:] = 0.0
        for w in range(W):
            at = t - W + 1 + w
            _add_tap(weight[w], inputs[at] if at >= start else past[at - start + W - 1], out, squares, noise)
        _walk(out, squares, noise)
        if silu:
            sigmoids(out, squares, noise, Site.CONV_ACT)
            for d in range(D):
                out[d] *= squares[d]
        round_all(out, noise, Site.CONV_OUT)


@helper
def _add_tap(weight: Any, inputs: Any, out: Any, squares: Any, noise: Any) -> None:
    """One tap of all channels, and the squares of their partial sums."""
    if silent(noise, Site.CONV_TAP):
        for d in range(len(out)):
            out[d] += weight[d] * inputs[d]
            squares[d] += out[d] * out[d]
        return
    u, eta, start = noise[0][Site.CONV_TAP, 0], noise[0][Site.CONV_TAP, 1], stream(noise, Site.CONV_TAP)
    for d in range(len(out)):
        out[d] += jolted(weight[d] * inputs[d], u, eta, start)
        squares[d] += out[d] * out[d]


@helper
def _walk(out: Any, squares: Any, noise: Any) -> None:
    if silent(noise, Site.CONV_SUM):
        return
    u, eta, start = noise[0][Site.CONV_SUM, 0], noise[0][Site.CONV_SUM, 1], stream(noise, Site.CONV_SUM)
    for d in range(len(out)):
        out[d] = walked(out[d], squares[d], u, eta, start)


def conv_history(
    slot: np.ndarray, width: int, has_initial_state: bool = True, accepted: int | None = None
) -> np.ndarray:
    """The W-1 inputs before a row's first token, [D, W-1] oldest first, from its conv slot [D, C].

    Plain rows (`accepted` None) read columns [0, W-1), or zeros without an initial state. A spec row whose
    previous launch had a = `accepted` tokens accepted reads columns [a-1, a+W-2). Any dtype; a copy.
    """
    _check_slot(slot, width, accepted)
    if accepted is not None:
        return slot[:, accepted - 1 : accepted + width - 2].copy()
    return slot[:, : width - 1].copy() if has_initial_state else np.zeros_like(slot[:, : width - 1])


def next_conv_state(
    slot: np.ndarray,
    x: np.ndarray,
    width: int,
    has_initial_state: bool = True,
    accepted: int | None = None,
) -> np.ndarray:
    """What a launch leaves in a row's conv slot (contract, "State" and "Spec rows, conv"), as exact copies.

    slot [D, C] before the launch and x [L, D], the row's raw inputs, share a dtype: a float, or the bit
    pattern of a narrow one (uint16, uint32). A row without tokens leaves the slot as it is. A plain row
    (`accepted` None) writes the last W-1 inputs to columns [0, W-1); a spec row writes
    slot[a : a+W-2] ‖ x_0 … x_{L-1} from column 0. Every other column keeps its bytes.

    Returns a new array. Raises ValueError for a dtype or width that does not fit, for `accepted` outside
    [1, S] or for more than S tokens in a spec row, S = C - W + 2.
    """
    _check_slot(slot, width, accepted)
    if x.dtype != slot.dtype or x.ndim != 2 or x.shape[1] != slot.shape[0]:
        raise ValueError(f"x is {x.dtype} {x.shape}, expected {slot.dtype} (any, {slot.shape[0]})")
    new = slot.copy()
    if not len(x):
        return new
    if accepted is None:
        seen = np.concatenate([conv_history(slot, width, has_initial_state), x.T], axis=1)
        new[:, : width - 1] = seen[:, len(x) :]
        return new
    if len(x) > _spec_width(slot, width):
        raise ValueError(f"x has {len(x)} tokens, expected at most S = {_spec_width(slot, width)}")
    new[:, : width - 2 + len(x)] = np.concatenate([slot[:, accepted : accepted + width - 2], x.T], axis=1)
    return new


def _spec_width(slot: np.ndarray, width: int) -> int:
    return slot.shape[1] - width + 2  # C = W-1 + num_spec and S = 1 + num_spec


def _check_slot(slot: np.ndarray, width: int, accepted: int | None) -> None:
    if slot.ndim != 2 or slot.shape[1] < width - 1:
        raise ValueError(f"slot has shape {slot.shape}, expected (any, at least {width - 1})")
    if accepted is None:
        return
    if width < 2:
        raise ValueError(f"width is {width}, expected at least 2 for a spec row")
    if not 1 <= accepted <= _spec_width(slot, width):
        raise ValueError(f"accepted is {accepted}, expected 1 to S = {_spec_width(slot, width)}")
