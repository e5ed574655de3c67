"""Small launches to judge: fed cases, the oracle's question about them, and answers that are rounded honestly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import Capabilities, DType, DTypes, Geometry, Options, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.checks.question import Written, ask, written
from gdn_verify.feed import TORCH, Feed, feed, initial_pools
from gdn_verify.oracles.compose import Array, Problem, clean, evaluate
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths.base import Launch, Missing, Outputs, Path

DELTA, LAYER = Span(Stage.DELTA, Stage.DELTA), Span(Stage.UNPACK, Stage.NORM)
F32, BF16 = DTypes(), DTypes(DType.BF16, DType.BF16, DType.BF16)
NORMAL = Values(
    1, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.NORMAL, Betas.NORMAL, States.NORMAL, Taps.NORMAL, Fill.NORMAL
)
SMALL = Geometry(H=2, HV=4, K=8, V=6)


class Idle(Path):
    """A path that is only fed: it takes everything and computes nothing."""

    name, hosts = "idle", ("cpu",)

    def __init__(self, span: Span = DELTA, **capabilities: object) -> None:
        self.capabilities = replace(Capabilities(span, separate_slots=True), **capabilities)  # type: ignore[arg-type]

    def missing(self, host: str) -> Missing | None:
        return None

    def load(self, host: str) -> str:
        return "1"

    def run(self, launch: Launch) -> Outputs:
        return Outputs(launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


def case_of(
    *rows: Row,
    dtypes: DTypes = F32,
    geometry: Geometry = SMALL,
    values: Values = NORMAL,
    slots: int = 0,
    pad_tokens: int = 0,
    options: Options | None = None,
) -> Case:
    """One launch of `rows`; the pool has a slot more than they name."""
    named = [slot for row in rows for slot in (*row.slots, row.read) if slot is not None]
    count = slots or max(named, default=0) + 2
    return Case(geometry, dtypes, count, (Batch(rows, pad_tokens),), values, options or Options())


def fed(case: Case, path: Path | None = None, presentation: Presentation | None = None, number: int = 0) -> Feed:
    """The case in memory, for a path of the delta stage unless another is given."""
    path, presentation = path or Idle(), presentation or Presentation()
    return feed(case, number, path, presentation, initial_pools(case, path, presentation), "cpu")


def question(case: Case, span: Span = DELTA) -> tuple[Problem, list[Written]]:
    """What the oracle is asked, and the states that are stored."""
    launch = fed(case, Idle(span))
    problem = ask(launch, span)
    return problem, written(launch, problem.every_token)


def rounded(value: Array, dtype: DType) -> Array:
    """To nearest, ties to even, by way of float32."""
    tensor = torch.from_numpy(np.ascontiguousarray(value)).float().to(TORCH[dtype])
    return np.asarray(tensor.double().numpy())


def exact(problem: Problem, stored: Iterable[Written]) -> dict[str, Array]:
    """The oracle's own o and stored h, without noise."""
    made = evaluate(problem, clean())
    return {"o": made["o"][0], "h": made["h"][0][[state.index for state in stored]]}


def honest(case: Case) -> tuple[Problem, Rounding, list[Written], dict[str, Array]]:
    """All arguments of `values.judge` for the delta stage, its results rounded once to their types."""
    problem, stored = question(case)
    results = exact(problem, stored)
    got = {"o": rounded(results["o"], case.dtypes.activation), "h": rounded(results["h"], case.dtypes.state)}
    return problem, sequential_float32(case.dtypes), stored, got
