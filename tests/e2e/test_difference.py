"""Transcripts held against each other: where they part, how far they are apart, and what measured noise explains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdn_verify.e2e.budget import Budget, measured
from gdn_verify.e2e.difference import Place, distance, distances, equal_tokens, partings
from gdn_verify.e2e.judgement import Judgement, judge
from gdn_verify.e2e.transcript import Request, Step, Transcript


def step(token: int, *logprobs: float) -> Step:
    """A step whose alternatives are tokens 0, 1, …"""
    return Step(token, dict(enumerate(logprobs)))


def said(*steps: Step, prompt: tuple[int, ...] = (9,)) -> Transcript:
    """One request's transcript."""
    return Transcript((Request(prompt, steps),))


BASE = said(step(0, -0.1, -2.0, -3.0), step(1, -1.0, -0.9, -4.0), step(0, -0.5, -0.7, -2.0))


def moved(by: float, at: int = 1) -> Transcript:
    """The baseline with one log-probability of a step moved; tokens stay."""
    steps = list(BASE.requests[0].steps)
    steps[at] = Step(steps[at].token, {**steps[at].logprobs, 1: steps[at].logprobs[1] + by})
    return said(*steps)


def flipped() -> Transcript:
    """At the second step the other of two tokens that are 0.1 apart."""
    first, _, last = BASE.requests[0].steps
    return said(first, step(0, -0.9, -1.0, -4.0), replace(last, token=2))


def test_ranks_and_margins_are_those_of_the_log_probabilities() -> None:
    """Whatever token was chosen."""
    seen = step(1, -1.0, -0.9, -4.0)
    assert seen.ranked == ((1, -0.9), (0, -1.0), (2, -4.0))
    assert seen.best == 1
    assert seen.margin == pytest.approx(0.1)


def test_a_distance_is_of_the_likeliest_tokens_and_bounds_those_not_shown_from_below() -> None:
    """A token that is not shown has at most the least that is."""
    assert distance(step(0, -0.1, -2.0), step(0, -0.1, -2.5)) == pytest.approx(0.5)
    assert distance(step(0, -0.1, -2.0), Step(0, {0: -0.1, 5: -6.0})) == pytest.approx(4.0)


def test_contexts_that_differ_are_not_compared() -> None:
    """Steps behind the first token that differs are left out."""
    (parting,) = partings(BASE, flipped())
    assert (parting.step, parting.tokens) == (1, (1, 0))
    assert parting.margins == pytest.approx((0.1, 0.1))
    assert set(distances(BASE, flipped())) == {Place(0, 0), Place(0, 1)}
    assert equal_tokens(BASE, flipped()) == (1, 3)


def test_transcripts_of_other_prompts_are_refused() -> None:
    """Their steps have nothing to do with each other."""
    with pytest.raises(ValueError, match="different prompts"):
        partings(BASE, said(*BASE.requests[0].steps, prompt=(8,)))


def test_a_budget_is_the_spread_of_the_runs_and_never_less_than_the_median() -> None:
    """A step that moves keeps its own, one that does not has the floor."""
    budget = measured(BASE, [moved(0.3), moved(-0.4)], "float32")
    assert budget.spreads[Place(0, 1)] == pytest.approx(((0.3**2 + 0.4**2) / 2) ** 0.5)
    assert budget.floor < 1e-6  # two of three steps did not move at all
    assert budget.of(Place(0, 1)) == pytest.approx(0.3536, rel=1e-3)


def test_other_batches_count_in_the_median_alone() -> None:
    """A request that is wrong in one batch alone is not its own excuse."""
    budget = measured(BASE, [moved(1e-3, n) for n in range(3)], "float32", apart=[moved(2.0)])
    assert budget.of(Place(0, 1)) < 0.01
    assert budget.runs == 4


def test_a_budget_of_no_runs_is_refused() -> None:
    """It would explain nothing, or everything."""
    with pytest.raises(ValueError, match="no noisy run"):
        measured(BASE, [], "float32")
    with pytest.raises(ValueError, match="no numbers"):
        measured(BASE, [moved(1e-3), moved(float("nan"))], "float32")


def judged(free: Transcript, forced: Transcript | None = None, spread: float = 0.1) -> Judgement:
    """Against the baseline, where every step has this budget."""
    places = {Place(0, n): spread for n in range(3)}
    return judge("toy", ("base", "other"), BASE, free, forced, Budget(places, 0.0, 8))


def test_noise_explains_a_tie_and_not_more() -> None:
    """A tie may part; a step thirty budgets off may not, token alike or not."""
    tie = judged(flipped())
    assert tie.explained
    assert not tie.equal
    wrong = judged(moved(3.0))
    assert wrong.equal
    assert not wrong.explained
    assert wrong.first is not None
    assert wrong.first.place == Place(0, 1)


def test_what_is_out_of_budget_behind_a_tie_is_seen_where_the_candidate_was_led() -> None:
    """Free, the steps behind a parting are not compared."""
    assert judged(flipped()).explained
    assert not judged(flipped(), forced=moved(4.0, at=2)).explained


def test_a_free_run_that_left_the_budget_is_not_excused_by_the_led_one() -> None:
    """Up to where it parts it saw the same tokens: there the larger distance of the two runs counts."""
    parted = judged(flipped(), forced=BASE)
    assert parted.explained
    first, *rest = flipped().requests[0].steps
    far = judged(said(Step(first.token, {**first.logprobs, 1: first.logprobs[1] - 3.0}), *rest), forced=BASE)
    assert not far.equal
    assert far.first is not None
    assert far.first.place == Place(0, 0)


def test_a_run_with_problems_explains_nothing() -> None:
    """As when a layer was left out, in the free run or in the led one."""
    broken = replace(BASE, problems=("2 layers called the core, of 3",))
    assert not judged(broken).explained
    assert not judged(flipped(), forced=broken).explained


def test_a_baseline_that_raised_accuses_nobody() -> None:
    """Its zeros are not the candidate's fault, and the reason is told."""
    places = {Place(0, n): 0.1 for n in range(3)}
    broken = replace(BASE, raised="layer 0 raised AssertionError: BF16")
    found = judge("toy", ("base", "other"), broken, moved(3.0), None, Budget(places, 0.0, 8))
    assert not found.raised
    assert any("BF16" in problem for problem in found.problems)


def test_a_candidate_that_raises_where_it_is_led_has_raised() -> None:
    """It then gives zeros, and says nothing of itself."""
    assert "boom" in judged(flipped(), forced=replace(BASE, raised="boom")).raised


def test_what_is_not_a_number_is_out_of_every_budget() -> None:
    """NaN is beyond any limit, though it compares with none; whichever token of a step it is of."""
    assert not judged(moved(float("nan"))).explained
    assert distance(step(0, -0.1, -2.0, -3.0), step(0, -0.1, -2.0, float("nan"))) == float("inf")
