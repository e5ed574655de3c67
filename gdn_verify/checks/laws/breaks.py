"""What a launch's problem would be if a law were broken: the measure of what a law case can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gdn_verify.checks.laws.shots import Breaks
from gdn_verify.oracles.compose import Array, Problem


def other_state(number: int, problem: Problem) -> Problem:
    """Zero states where there are some, ones where there are none."""
    return _state_ignored(problem)


def state_ignored_in_last(launches: int) -> Breaks:
    """What launches before the last left has not arrived."""
    return lambda number, problem: _state_ignored(problem) if number == launches - 1 else problem


def _state_ignored(problem: Problem) -> Problem:
    if problem.state is None:
        return problem
    zero = ~problem.state.any(axis=(1, 2, 3))
    state = np.zeros_like(problem.state)
    state[zero] = 1.0
    history = None if problem.history is None else np.zeros_like(problem.history)
    return replace(problem, state=state, history=history)


def states_of_next_row(number: int, problem: Problem) -> Problem:
    """Every row starts from the state of the row after it."""
    return _rolled(problem, 0)


def states_of_next_head(number: int, problem: Problem) -> Problem:
    """Every head starts from the state of the head after it."""
    return _rolled(problem, 1)


def _rolled(problem: Problem, axis: int) -> Problem:
    if problem.state is None:
        return problem
    state = np.ascontiguousarray(np.roll(problem.state, 1, axis=axis))
    return _state_ignored(problem) if np.array_equal(state, problem.state) else replace(problem, state=state)


def states_negated(number: int, problem: Problem) -> Problem:
    """Every row starts from the negative of its state."""
    return problem if problem.state is None else replace(problem, state=-problem.state)


def nothing_decays(number: int, problem: Problem) -> Problem:
    """g = 0."""
    return _gates(problem, "g", 0.0, "a", -90.0)


def all_is_written(number: int, problem: Problem) -> Problem:
    """β = 1."""
    return _gates(problem, "beta", 1.0, "b", 60.0)


def _gates(problem: Problem, name: str, value: float, raw: str, raw_value: float) -> Problem:
    """The problem with a gate of this value everywhere, or with an input that makes it so."""
    given, wanted = (name, value) if name in problem.tensors else (raw, raw_value)
    changed: dict[str, Array] = {given: np.full_like(problem.tensors[given], wanted)}
    return problem.with_tensors(**changed)
