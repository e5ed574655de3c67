"""A second opinion on a contender whose kernels are a registered path: the gate's noise budget, on a few cases."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from gdn_verify.bench.contender import Contender, Setting
from gdn_verify.bench.inputs import ACTIVATION
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import ConvLayout, DTypes, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.hosts import Host
from gdn_verify.paths import find
from gdn_verify.runner import run_case

ROWS = 2
PROMPTS = (70, 3)
"""Tokens of the rows of a prefill: beyond a chunk and within one."""
RECIPES = tuple(
    Values(seed, q, k, Fill.NORMAL, gates, beta, state, Taps.NORMAL, Fill.NORMAL)
    for seed, (q, k, gates, beta, state) in enumerate(
        (
            (Vectors.NORMAL, Vectors.NORMAL, Gates.NORMAL, Betas.NORMAL, States.NORMAL),
            (Vectors.NORMAL, Vectors.CORRELATED, Gates.WEAK, Betas.NEAR_ONE, States.LARGE),
        )
    )
)
"""Plain numbers, and a long memory of like keys."""


def noise_budget(host: Host) -> Callable[[Contender, Setting], str]:
    """What the gate has against a contender's path on `host` for a setting's geometry and dtypes, "" if nothing."""

    @cache
    def judged(path: str, launch: Setting, order: StateOrder, layout: ConvLayout) -> str:
        loaded = find(path)
        loaded.load(host.name)
        for values in RECIPES:
            fed = Presentation(state_order=order, conv_layout=layout, first_slot=1)
            result = run_case(_case(launch, values), fed, loaded, host)
            if result.findings:
                return f"noise budget: {result.findings[0].message}"
            if not result.judged:
                return f"noise budget: path {path} judged nothing: {result.refused}"
        return ""

    def opinion(contender: Contender, setting: Setting) -> str:
        if not contender.path:
            return ""
        short = Setting(setting.geometry, ROWS, setting.state, PROMPTS if setting.lengths else (), setting.fresh)
        return judged(contender.path, short, contender.state_order, contender.conv_layout)

    return opinion


def _case(launch: Setting, values: Values) -> Case:
    """ROWS rows: prompts; or resumed with one token, or with S drafts of which another number was accepted."""
    if launch.lengths:
        return _prompts(launch, values)
    geometry, state, S = launch.geometry, launch.state, launch.geometry.S
    slots = [tuple(range(row * S, row * S + S)) for row in range(ROWS)]
    rows = tuple(Row(S, names, accepted=min(row + 1, S) if S > 1 else None) for row, names in enumerate(slots))
    kept = {"activation": ACTIVATION, "conv_state": ACTIVATION, "weights": ACTIVATION}
    return Case(geometry, DTypes(state=state, **kept), slots=ROWS * S, batches=(Batch(rows),), values=values)


def _prompts(launch: Setting, values: Values) -> Case:
    rows = tuple(Row(length, (slot,), fresh=launch.fresh) for slot, length in enumerate(launch.lengths))
    kept = {"activation": ACTIVATION, "conv_state": ACTIVATION, "weights": ACTIVATION}
    return Case(launch.geometry, DTypes(state=launch.state, **kept), slots=ROWS, batches=(Batch(rows),), values=values)
