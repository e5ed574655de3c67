"""Is a contender right on the inputs it is timed on? No speed is reported for one that is not.

The gate judges a kernel over generated cases; this looks at one launch at the benched size, against the equations in
float64 at the rounded inputs. The limit is made of roundoffs, as the gate's: each intermediate that an implementation
may keep in the activations' dtype (conv, q̂, k̂, β, o, the normed o) is moved by one unit roundoff up or down, the gate
g by one of float32, and the conv's products where a contender says that it rounds them, `DRAWS` times at random. The
root mean square of what that does to a row of the result, and the rounding of the result itself, are its budget. A
row is a (token, head) of the output or a (head, v) of a state.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gdn_verify.bench.contender import Contender, Inputs, Results, Setting
from gdn_verify.bench.damage import Judgement, budget, overwritten, strayed, worse
from gdn_verify.bench.inputs import ACTIVATION, blocks, draw
from gdn_verify.bench.reference import as_vk, conv_pool_after, evaluate
from gdn_verify.cases.contract import DType, Stage
from gdn_verify.oracles.noise import threshold

DRAWS = 16
WARM_SEED, JUDGED_SEED = 1, 2
WRITABLE = ("out", "pool", "conv_pool")


def judge(contender: Contender, setting: Setting, device: str) -> Judgement:
    """One launch on fresh inputs, after one on others: an autotuned kernel tunes itself on the first, in place."""

    def drawn(seed: int) -> Inputs:
        return draw(setting, device, seed, contender.state_order, contender.conv_layout)

    contender.prepare(drawn(WARM_SEED))()
    given, used = drawn(JUDGED_SEED), drawn(JUDGED_SEED)
    results = contender.prepare(used)()
    if wrong := next(_misplaced(contender, given, used, results), ""):
        return Judgement(False, words=wrong)
    return _compare(contender, given, used, results)


def _misplaced(contender: Contender, given: Inputs, used: Inputs, results: Results) -> Iterator[str]:
    """Bytes that differ where a launch copies or must not write, and results of another shape."""
    yield from overwritten(given, used, WRITABLE)
    conv_pool = conv_pool_after(given) if Stage.CONV in contender.span else given.conv_pool
    if not torch.equal(used.conv_pool, conv_pool):
        yield "conv_pool differs from a bit-exact copy of the inputs"
    yield from strayed(contender, given, used, results)


def _compare(contender: Contender, given: Inputs, used: Inputs, results: Results) -> Judgement:
    worst = Judgement(True, limit=threshold(given.out[..., 0].numel() + _states(given)))
    for rows in blocks(given.setting.rows):
        for name, got, (value, allowed) in _pairs(contender, given, used, results, rows):
            worst = worse(worst, name, (got - value).norm(dim=-1) / allowed, rows.start)
    return worst


def _states(given: Inputs) -> int:
    return given.setting.tokens * given.geometry.HV * given.geometry.V


Bounded = tuple[Tensor, Tensor]
"""A result [n, …, x] and its budget [n, …], float64."""


def _pairs(
    contender: Contender, given: Inputs, used: Inputs, results: Results, rows: slice
) -> Iterator[tuple[str, Tensor, Bounded]]:
    """(name, what came out, what should have) of some rows: out [n, S, HV, V], then states [n, S, HV, V, K]."""
    S = given.geometry.S
    out, h = _expected(contender, given, rows)
    yield "out", results.out.unflatten(0, (-1, S))[rows].double(), out
    slots = used.state_indices.reshape(-1, S)[rows].long()
    states = used.pool[slots] if results.states is None else results.states[rows, None]
    yield "state", as_vk(states, contender.state_order).double(), h


def _expected(contender: Contender, given: Inputs, rows: slice) -> tuple[Bounded, Bounded]:
    """The result and the states of some rows, with their budgets."""
    clean = evaluate(given, contender.span, contender.state_order, rows)
    squares = [torch.zeros_like(value[..., 0]) for value in clean]
    for seed in range(DRAWS):
        moved = evaluate(
            given, contender.span, contender.state_order, rows, _Jolt(given.out.device, seed, contender.narrow_products)
        )
        for total, value, shifted in zip(squares, clean, moved, strict=True):
            total += (shifted - value).square().sum(-1) / DRAWS
    out, h = (
        (value, budget(value, total, dtype))
        for value, total, dtype in zip(clean, squares, (ACTIVATION, given.setting.state), strict=True)
    )
    return out, h


class _Jolt:
    """Moves every number of an intermediate by one unit roundoff, up or down at random.

    The conv's products stay, unless the contender says that it rounds them.
    """

    def __init__(self, device: torch.device, seed: int, narrow_products: bool) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.narrow_products = narrow_products

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if name == "products" and not self.narrow_products:
            return value
        kept_in = DType.F32 if name == "g" else ACTIVATION
        sign = torch.empty_like(value).bernoulli_(0.5, generator=self.generator) * 2 - 1
        return value * (1 + kept_in.unit_roundoff * sign)
