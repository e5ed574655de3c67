"""The tensors of a case at the left edge of a span: float64 numbers before rounding to their dtypes.

A case read at another edge is another problem of the same character: recipes describe the tensors *at*
the edge, so that no value depends on somebody's exp or sigmoid and all bits are the same everywhere.
"""

from __future__ import annotations

import math

import numpy as np

from gdn_verify.cases import values as recipe
from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Geometry, Span, Stage
from gdn_verify.cases.values import Array


def parameters(case: Case, span: Span) -> dict[str, Array]:
    """Weights of the stages in `span`: conv_weight [D, W], conv_bias [D], A_log, dt_bias [HV], norm_weight [V]."""
    g, values = case.geometry, case.values
    out: dict[str, Array] = {}
    if Stage.CONV in span:
        out["conv_weight"] = recipe.taps(values.conv, values.seed, "conv_weight", (g.D, g.W))
        if case.options.conv_bias:
            out["conv_bias"] = 0.1 * recipe.normal(values.seed, "conv_bias", (g.D,))
    if Stage.GATES in span:
        low, high = recipe.A_LOG[values.gates]
        out["A_log"] = low + (high - low) * recipe.uniform(values.seed, "A_log", (g.HV,))
        out["dt_bias"] = recipe.gate_bias(values.gates, values.seed, "dt_bias", (g.HV,))
    if Stage.NORM in span:
        out["norm_weight"] = 1.0 + 0.25 * recipe.normal(values.seed, "norm_weight", (g.V,))
    return out


def pools(case: Case, span: Span) -> dict[str, Array]:
    """What the pools hold before the first launch: ssm [P, HV, V, K] and, with a conv, conv [P, D, C]."""
    g, seed = case.geometry, case.values.seed
    out: dict[str, Array] = {}
    if Stage.DELTA in span:
        out["ssm"] = recipe.states(case.values.state, seed, "ssm", (case.slots, g.HV, g.V, g.K))
    if Stage.CONV in span:
        # The conv state is made of earlier inputs, channel by channel of the same character as x.
        columns = _channels(case, "conv_pool", case.slots * g.C)
        out["conv"] = columns.reshape(case.slots, g.C, g.D).transpose(0, 2, 1)
    return out


def activations(case: Case, number: int, span: Span) -> dict[str, Array]:
    """Inputs of batch `number` at the left edge of `span`, padding tokens included.

    unpack and conv: x [T, D] (flat q|k|v before the conv), b, a [T, HV]; gates: q, k [T, H, K],
    v [T, HV, V], b, a; delta: q, k, v, g, beta [T, HV]; and z [T, HV, V] wherever it passes through.
    """
    batch = case.batches[number]
    tokens = batch.tokens + batch.pad_tokens
    tag = f"batch{number}/"
    out = _projections(case, tag, tokens, span)
    out |= _gates(case, batch, tag, tokens, span)
    if span.first is Stage.UNPACK or Stage.NORM in span:
        shape = (tokens, case.geometry.HV, case.geometry.V)
        out["z"] = recipe.fill(case.values.z, case.values.seed, tag + "z", shape)
    return out


def _projections(case: Case, tag: str, tokens: int, span: Span) -> dict[str, Array]:
    if span.first is Stage.NORM:
        shape = (tokens, case.geometry.HV, case.geometry.V)
        return {"o": recipe.fill(case.values.v, case.values.seed, tag + "o", shape)}
    if span.first.order <= Stage.CONV.order:
        return {"x": _channels(case, tag + "x", tokens)}
    q, k, v = split(_channels(case, tag + "x", tokens), case.geometry)
    if span.qk_normalised:
        q, k = recipe.unit(q), recipe.unit(k)
    return {"q": q, "k": k, "v": v}


def split(x: Array, g: Geometry) -> tuple[Array, Array, Array]:
    """Flat channels [T, D] as q, k [T, H, K] and v [T, HV, V]."""
    edges = (g.H * g.K, 2 * g.H * g.K)
    q, k, v = np.split(x, edges, axis=1)
    return q.reshape(-1, g.H, g.K), k.reshape(-1, g.H, g.K), v.reshape(-1, g.HV, g.V)


def _channels(case: Case, name: str, tokens: int) -> Array:
    g, values = case.geometry, case.values
    q = recipe.vectors(values.q, values.seed, name + "/q", (tokens, g.H, g.K))
    k = recipe.vectors(values.k, values.seed, name + "/k", (tokens, g.H, g.K))
    v = recipe.fill(values.v, values.seed, name + "/v", (tokens, g.HV, g.V))
    return np.concatenate([part.reshape(tokens, math.prod(part.shape[1:])) for part in (q, k, v)], axis=1)


def _gates(case: Case, batch: Batch, tag: str, tokens: int, span: Span) -> dict[str, Array]:
    g, values = case.geometry, case.values
    if span.first is Stage.NORM:
        return {}
    lengths = (*(row.tokens for row in batch.rows), batch.pad_tokens)
    spike = recipe.spikes(values.seed, lengths, g.HV)
    if span.first is Stage.DELTA:
        return {
            "g": recipe.log_decay(values.gates, values.seed, tag + "g", spike),
            "beta": case.options.beta_scale * recipe.beta(values.beta, values.seed, tag + "beta", (tokens, g.HV)),
        }
    return {
        "a": recipe.raw_gate(values.gates, values.seed, tag + "a", spike),
        "b": recipe.raw_beta(values.beta, values.seed, tag + "b", (tokens, g.HV)),
    }
