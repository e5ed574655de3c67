"""Is a contender's prefill right on the inputs it is timed on? One launch, held to `reference`."""

from __future__ import annotations

from itertools import chain

from torch import Tensor

from gdn_verify.bench.contender import Contender, PrefillInputs, Results, Setting
from gdn_verify.bench.damage import Judgement, overwritten, strayed, worse
from gdn_verify.bench.judge import JUDGED_SEED, WARM_SEED
from gdn_verify.bench.prefill.inputs import draw
from gdn_verify.bench.prefill.reference import MOST, Expected, expect
from gdn_verify.bench.reference import as_vk
from gdn_verify.oracles.noise import threshold

WRITABLE = ("out", "pool")


class Judge:
    """Judges launches; what a setting should leave is computed once for all contenders in a row.

    `most` tokens times value heads are held to it, and never fewer than the first and the last head.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._known: tuple[Setting, str] | None = None
        self._expected: Expected | None = None

    def __call__(self, contender: Contender, setting: Setting, device: str) -> Judgement:
        """One launch on fresh inputs, after one on others: an autotuned kernel tunes itself on the first, in place."""
        contender.prepare(draw(setting, device, WARM_SEED, contender.state_order))()
        given, used = (draw(setting, device, JUDGED_SEED, contender.state_order) for _ in range(2))
        results = contender.prepare(used)()
        wrong = next(chain(overwritten(given, used, WRITABLE), strayed(contender, given, used, results)), "")
        return Judgement(False, words=wrong) if wrong else self._compare(contender, given, used, results)

    def _compare(self, contender: Contender, given: PrefillInputs, used: PrefillInputs, results: Results) -> Judgement:
        expected = self._expect(contender, given)
        some = len(expected.heads) if len(expected.heads) < given.geometry.HV else 0
        count = expected.out_budget.numel() + expected.state_budget.numel()
        return _worst(Judgement(True, limit=threshold(count), heads=some), contender, expected, used, results)

    def _expect(self, contender: Contender, given: PrefillInputs) -> Expected:
        asked = given.setting, str(given.q.device)
        if self._expected is None or self._known != asked:
            self._known, self._expected = asked, None  # the last setting's memory first
            self._expected = expect(given, contender.state_order, most=self.most)
        return self._expected


def _worst(
    worst: Judgement, contender: Contender, expected: Expected, used: PrefillInputs, results: Results
) -> Judgement:
    out = results.out[:, expected.heads].double()
    worst = worse(worst, "out", _spread((out - expected.out).norm(dim=-1) / expected.out_budget, expected, used))
    states = used.pool[used.state_indices.long()] if results.states is None else results.states
    h = as_vk(states, contender.state_order)[:, expected.heads].double()
    return worse(worst, "state", _spread((h - expected.states).norm(dim=-1) / expected.state_budget, expected, used))


def _spread(ratios: Tensor, expected: Expected, used: PrefillInputs) -> Tensor:
    """[T or N, n, …] of some heads as [T or N, HV, …], zeros for the others: a place has the head's own number."""
    whole = ratios.new_zeros(len(ratios), used.geometry.HV, *ratios.shape[2:])
    whole[:, expected.heads] = ratios
    return whole
