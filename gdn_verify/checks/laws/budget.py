"""How far honest rounding may move the results of a chain of launches, and what a broken law would make of them.

The oracle of `gdn_verify.oracles.noise`, over launches that read each other's states: in each perturbed run a launch
starts from the states which the launch before left in that same run, its rounding when stored included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gdn_verify.cases.contract import DType
from gdn_verify.checks.laws.shots import Breaks
from gdn_verify.checks.question import Written
from gdn_verify.oracles.compose import Array, Draw, Problem, Results, proceed
from gdn_verify.oracles.noise import Expected, Rounding, budgets, bytes_of_a_run
from gdn_verify.oracles.sites import quiet_sites

_BYTES_AT_ONCE = 1 << 27


@dataclass(frozen=True)
class Question:
    """What the oracle is asked of one launch.

    `stored` are the states that it stores; `arrives` gives for each live row the number, among all states that the
    chain stored before, of the one it starts from, or None where that is the problem's own.
    """

    problem: Problem
    rounding: Rounding
    stored: tuple[Written, ...]
    arrives: tuple[int | None, ...]


Asked = Sequence[Question]


def spread(questions: Asked, runs: int, seed: int = 1) -> dict[str, Expected]:
    """The clean results of a chain, out and h of all launches one after the other, with their budgets.

    Raises FloatingPointError where a result or a budget is not finite.
    """
    block = max(1, _BYTES_AT_ONCE // sum(bytes_of_a_run(question.problem) for question in questions))
    clean: list[Results] = []
    squares: list[dict[str, Array]] = []
    for start in range(0, runs, block):
        noisy = _answers(questions, [q.rounding.draw(seed + start, min(block, runs - start) + 1) for q in questions])
        if not clean:
            clean = [{name: value[0] for name, value in made.items()} for made in noisy]
            squares = [{name: np.zeros(value.shape[:-1]) for name, value in made.items()} for made in clean]
        for made, right, total in zip(noisy, clean, squares, strict=True):
            for name, value in made.items():
                deviation = value[1:] - right[name]
                total[name] += np.einsum("r...n,r...n->...", deviation, deviation)
    parts = [
        budgets(right, total, runs, _types(question))
        for question, right, total in zip(questions, clean, squares, strict=True)
    ]
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _types(question: Question) -> Mapping[str, DType]:
    outputs = dict(question.rounding.outputs)
    return outputs if "norm_weight" in question.problem.tensors else {**outputs, "out": outputs["o"]}


def _joined(parts: list[Expected]) -> Expected:
    return Expected(np.concatenate([p.value for p in parts]), np.concatenate([p.budget for p in parts]))


def broken_results(questions: Asked, breaks: Breaks) -> dict[str, Array]:
    """What the oracle makes of the chain without noise, each launch's problem changed by `breaks`."""
    answers: list[Results] = []
    for number, question in enumerate(questions):
        problem = question.problem
        if problem.state is not None:
            problem = replace(problem, state=_starting(question, answers, 1)[0])
        question = replace(question, problem=breaks(number, problem), arrives=())
        answers.append(_answer(question, answers, _quiet(question.rounding)))
    return {name: np.concatenate([made[name][0] for made in answers]) for name in answers[0]}


def _quiet(rounding: Rounding) -> Draw:
    draw = rounding.draw(0, 1)
    return replace(draw, sites=quiet_sites())


def _answers(questions: Asked, draws: Sequence[Draw]) -> list[Results]:
    """out and h of each launch, with a leading axis of runs."""
    answers: list[Results] = []
    for question, draw in zip(questions, draws, strict=True):
        answers.append(_answer(question, answers, draw))
    return answers


def _answer(question: Question, before: Sequence[Results], draw: Draw) -> Results:
    known = {name: value[None] for name, value in question.problem.tensors.items()}
    if question.problem.state is not None:
        known["state"] = _starting(question, before, draw.runs)
    return _kept(question, proceed(question.problem, known, draw))


def _kept(question: Question, made: Results) -> Results:
    kept = {"out": made["out"] if "out" in made else made["o"]}
    if "h" in made:
        kept["h"] = made["h"][:, [state.index for state in question.stored]]
    return kept


def _starting(question: Question, before: Sequence[Results], runs: int) -> Array:
    """The states of the rows in each run, [R, N, HV, V, K]; R is 1 where none comes from an earlier launch."""
    assert question.problem.state is not None
    state = question.problem.state[None]
    if all(at is None for at in question.arrives):
        return state
    state = np.repeat(state, runs, axis=0)
    stored = np.concatenate([made["h"] for made in before], axis=1)
    for row, at in enumerate(question.arrives):
        if at is not None:
            state[:, row] = stored[:, at]
    return state
