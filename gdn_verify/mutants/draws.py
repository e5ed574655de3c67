"""What published tests feed: the distributions of their inputs, drawn anew at sizes that an interpreter can run.

Each function takes a `Source` and returns the tensors at the edge of the code under test: q, k [T, H, K], v [T, HV, V]
in the type of the activations; g, beta [T, HV] in float32, or a, b [T, HV] with A_log, dt_bias [HV]; and `states`
[P, HV, V, K], one for each slot, in the type of the pool. Sources of the numbers: `rules`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize, silu

from gdn_verify.cases.contract import Geometry

Inputs = dict[str, Tensor]
SEED = 42


@dataclass
class Source:
    """Sizes and types of a launch, and the random numbers for it: the same for the same seed."""

    geometry: Geometry
    tokens: int
    slots: int
    activation: torch.dtype
    state: torch.dtype
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(SEED))

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), float32."""
        return torch.randn(shape, generator=self.generator)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """U[low, high), float32."""
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    @property
    def keys(self) -> tuple[int, int, int]:
        """The shape of q and of k."""
        return self.tokens, self.geometry.H, self.geometry.K

    @property
    def values(self) -> tuple[int, int, int]:
        """The shape of v."""
        return self.tokens, self.geometry.HV, self.geometry.V

    @property
    def heads(self) -> tuple[int, int]:
        """The shape of g, of β, of a and of b."""
        return self.tokens, self.geometry.HV

    @property
    def pool(self) -> tuple[int, int, int, int]:
        """The shape of the states."""
        return self.slots, self.geometry.HV, self.geometry.V, self.geometry.K

    def stored(self, inputs: Inputs) -> Inputs:
        """Rounded as the test stores them: activations and states in their types."""
        narrow = {name: inputs[name].to(self.activation) for name in ("q", "k", "v")}
        return {**inputs, **narrow, "states": inputs["states"].to(self.state)}


Draw = Callable[[Source], Inputs]


def _gentle(rng: Source, normalizer: float) -> Tensor:
    """FLA's log decay: logsigmoid(U[0, 1)) over a divisor."""
    return logsigmoid(rng.uniform(*rng.heads)) / normalizer


def fla_chunk(normalizer: float, masked: float = 0.0) -> Draw:
    """q, k, v ~ U[0, 1), β = sigmoid(U[0, 1)), each decay 1 with probability `masked`, states zero."""

    def draw(rng: Source) -> Inputs:
        g = _gentle(rng, normalizer) * (rng.uniform(*rng.heads) > masked)
        q, k, v = rng.uniform(*rng.keys), rng.uniform(*rng.keys), rng.uniform(*rng.values)
        return rng.stored(
            {"q": q, "k": k, "v": v, "g": g, "beta": rng.uniform(*rng.heads).sigmoid(), "states": torch.zeros(rng.pool)}
        )

    return draw


def fla_recurrent(normalizer: float) -> Draw:
    """q, k, v, states ~ N(0, 1), β = sigmoid(U[0, 1))."""

    def draw(rng: Source) -> Inputs:
        q, k, v = rng.normal(*rng.keys), rng.normal(*rng.keys), rng.normal(*rng.values)
        beta, g = rng.uniform(*rng.heads).sigmoid(), _gentle(rng, normalizer)
        return rng.stored({"q": q, "k": k, "v": v, "g": g, "beta": beta, "states": rng.normal(*rng.pool)})

    return draw


def _raw(rng: Source, scales: dict[str, float]) -> Inputs:
    """q, k, v, a, b, A_log, dt_bias and states ~ N(0, 1) times a scale each."""
    shapes = {
        "q": rng.keys, "k": rng.keys, "v": rng.values, "a": rng.heads, "b": rng.heads,
        "A_log": rng.heads[1:], "dt_bias": rng.heads[1:], "states": rng.pool,
    }  # fmt: skip
    return rng.stored({name: scales[name] * rng.normal(*shape) for name, shape in shapes.items()})


def _scaled(qkv: float, a: float, b: float, A_log: float, dt_bias: float, states: float) -> dict[str, float]:
    return {"q": qkv, "k": qkv, "v": qkv, "a": a, "b": b, "A_log": A_log, "dt_bias": dt_bias, "states": states}


def aiter_rearranged(normalizer: float) -> Draw:
    """All 0.05·N(0, 1), but A_log 0.02·clamp(N(0, 1), -2, 0.5) and dt_bias 0.005·N(0, 1); a over a divisor."""

    def draw(rng: Source) -> Inputs:
        drawn = _raw(rng, _scaled(0.05, 0.05 / normalizer, 0.05, 1.0, 0.005, 0.05))
        return {**drawn, "A_log": 0.02 * drawn["A_log"].clamp(-2.0, 0.5)}

    return draw


def aiter_plain(rng: Source) -> Inputs:
    """Its row without a norm of q and k: q, k, v and states ~ N(0, 1), gates 0.1, 0.02 and 0.01 times that."""
    return _raw(rng, _scaled(1.0, 0.1, 0.1, 0.02, 0.01, 1.0))


def aiter_packed(rng: Source) -> Inputs:
    """q, k, v 0.1·N(0, 1), gates 0.2, dt_bias 0.1, states 0.02 times that, A_log ~ U[-3, -1)."""
    drawn = _raw(rng, _scaled(0.1, 0.2, 0.2, 0.0, 0.1, 0.02))
    return {**drawn, "A_log": rng.uniform(*rng.heads[1:], low=-3.0, high=-1.0)}


def unit_normal(rng: Source) -> Inputs:
    """All ~ N(0, 1): vLLM's packed decode, SGLang's CuTe DSL decode."""
    return _raw(rng, _scaled(1.0, 1.0, 1.0, 1.0, 1.0, 1.0))


def flashinfer_decode(rng: Source) -> Inputs:
    """q, k, v, b, states ~ N(0, 1), k of norm 1; a, A_log, dt_bias 0.1·N(0, 1)."""
    drawn = _raw(rng, _scaled(1.0, 0.1, 1.0, 0.1, 0.1, 1.0))
    return {**drawn, "k": normalize(drawn["k"].float(), dim=-1).to(rng.activation)}


def flashinfer_prefill(decays: bool, writes: bool) -> Draw:
    """Each vector ~ U[m - 0.25, m + 0.25), m ~ N(0, 0.05²), k of norm 1; decay and β ~ U[0, 1), or 1; no states.

    There is no state: a slot holds NaN, as the test fills what it expects to be written.
    """

    def vectors(rng: Source, shape: tuple[int, int, int]) -> Tensor:
        return rng.uniform(*shape, low=-0.25, high=0.25) + 0.05 * rng.normal(*shape[:2], 1)

    def draw(rng: Source) -> Inputs:
        q, k, v = (vectors(rng, shape) for shape in (rng.keys, rng.keys, rng.values))
        one = torch.ones(rng.heads)
        g = rng.uniform(*rng.heads, low=1e-7).log() if decays else 0 * one
        beta = rng.uniform(*rng.heads) if writes else one
        states = torch.full(rng.pool, math.nan)
        return rng.stored({"q": q, "k": normalize(k, dim=-1), "v": v, "g": g, "beta": beta, "states": states})

    return draw


def vllm_split(rng: Source) -> Inputs:
    """The layer's input, conv weights and bias 0.1·N(0, 1), conv and recurrent states 0.05·N(0, 1), gates 0.1·N(0, 1).

    q, k and v are what a conv of width 4 with silu makes of them; each token's window is drawn by itself.
    """

    def conv(shape: tuple[int, int, int]) -> Tensor:
        window, taps = 0.1 * rng.normal(4, *shape), 0.1 * rng.normal(4, *shape[1:])
        return silu((window * taps[:, None]).sum(0) + 0.1 * rng.normal(*shape[1:]))

    drawn = _raw(rng, _scaled(0.0, 0.1, 0.1, 0.1, 0.1, 0.05))
    return rng.stored({**drawn, "q": conv(rng.keys), "k": conv(rng.keys), "v": conv(rng.values)})


def vllm_cutedsl(rng: Source) -> Inputs:
    """q, k of norm 1; v, a, b ~ N(0, 1); A ~ U[0, 16), dt log-uniform in [0.001, 0.1]; states 0.05·N(0, 1)."""
    drawn = _raw(rng, _scaled(1.0, 1.0, 1.0, 0.0, 0.0, 0.05))
    units = {name: normalize(drawn[name].float(), dim=-1).to(rng.activation) for name in ("q", "k")}
    dt = rng.uniform(*rng.heads[1:], low=math.log(0.001), high=math.log(0.1)).exp()
    A_log = rng.uniform(*rng.heads[1:], low=1e-6, high=16.0).log()
    return {**drawn, **units, "A_log": A_log, "dt_bias": dt + torch.log(-torch.expm1(-dt))}


def vllm_cpu(rng: Source) -> Inputs:
    """All ~ U[0, 1), and tensors of as many elements and one type are one tensor: q is k, a is b."""
    made: dict[tuple[int, torch.dtype], Tensor] = {}

    def same(shape: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> Tensor:
        count = math.prod(shape)
        return made.setdefault((count, dtype), rng.uniform(count).to(dtype)).reshape(shape)

    H, F32 = rng.heads[1:], torch.float32
    gates = {"a": same(rng.heads), "b": same(rng.heads), "A_log": same(H, F32), "dt_bias": same(H)}
    vectors = {"q": same(rng.keys), "k": same(rng.keys), "v": same(rng.values)}
    return rng.stored({**vectors, **gates, "states": same(rng.pool, F32)})


def sglang_chunk(rng: Source) -> Inputs:
    """q, k, v ~ N(0, 1), g = logsigmoid(N(0, 1)), β = sigmoid(N(0, 1)), states 0.1·N(0, 1)."""
    q, k, v = rng.normal(*rng.keys), rng.normal(*rng.keys), rng.normal(*rng.values)
    g, beta = logsigmoid(rng.normal(*rng.heads)), rng.normal(*rng.heads).sigmoid()
    return rng.stored({"q": q, "k": k, "v": v, "g": g, "beta": beta, "states": 0.1 * rng.normal(*rng.pool)})
