"""A second opinion on a contender whose kernels are a registered path: the gate's noise budget, on a few cases."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from gdn_verify.bench.contender import Contender, Setting
from gdn_verify.bench.inputs import ACTIVATION
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import ConvLayout, DType, DTypes, Geometry, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.hosts import Host
from gdn_verify.paths import find
from gdn_verify.runner import run_case

ROWS = 2
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
    def judged(path: str, geometry: Geometry, state: DType, order: StateOrder, layout: ConvLayout) -> str:
        loaded = find(path)
        loaded.load(host.name)
        for values in RECIPES:
            fed = Presentation(state_order=order, conv_layout=layout, first_slot=1)
            result = run_case(_case(geometry, state, values), fed, loaded, host)
            if result.findings:
                return f"noise budget: {result.findings[0].message}"
            if not result.judged:
                return f"noise budget: path {path} judged nothing: {result.refused}"
        return ""

    def opinion(contender: Contender, setting: Setting) -> str:
        if not contender.path:
            return ""
        asked = (setting.geometry, setting.state, contender.state_order, contender.conv_layout)
        return judged(contender.path, *asked)

    return opinion


def _case(geometry: Geometry, state: DType, values: Values) -> Case:
    """ROWS rows, each resumed with one token, or with S drafts of which another number was accepted."""
    S = geometry.S
    slots = [tuple(range(row * S, row * S + S)) for row in range(ROWS)]
    rows = tuple(Row(S, names, accepted=min(row + 1, S) if S > 1 else None) for row, names in enumerate(slots))
    kept = {"activation": ACTIVATION, "conv_state": ACTIVATION, "weights": ACTIVATION}
    return Case(geometry, DTypes(state=state, **kept), slots=ROWS * S, batches=(Batch(rows),), values=values)
