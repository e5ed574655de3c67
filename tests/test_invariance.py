"""Batch invariance: seen where rows are apart, missed by nobody who leaks, and a law for who claims it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import fake_paths
import pytest

from gdn_verify import invariance
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry, Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.hosts import HOSTS, Host
from gdn_verify.invariance import Fact, compare, measure
from gdn_verify.paths import Path, find
from gdn_verify.paths.base import Launch, Outputs

CPU = HOSTS["cpu"]


class Changed(fake_paths.Fake):
    """A path whose bits depend on nothing at all, but for what a test does to its output afterwards."""

    def __init__(self, change: Callable[[Launch], None]) -> None:
        super().__init__("fake-changed")
        self._change = change

    def run(self, launch: Launch) -> Outputs:
        outputs = super().run(launch)
        assert outputs.final_state is not None
        for result in (launch["out"], outputs.final_state):
            result.fill_(1.0)
        self._change(launch)
        return outputs


def fact(change: Callable[[Launch], None], claimed: bool = False) -> Fact:
    path = Changed(change)
    path.conventions = replace(path.conventions, batch_invariant=claimed)
    return measure(path, CPU, Kind.DECODE, 12)


def nothing(launch: Launch) -> None:
    """Rows stay as they are."""


def by_number_of_rows(launch: Launch) -> None:
    """Another summation order for larger launches, say."""
    if len(launch["out"]) > 1:
        launch["out"].mul_(1.0 + 2.0**-23)


def by_place(launch: Launch) -> None:
    """The last row is of a tail."""
    launch["out"][-1].mul_(1.0 + 2.0**-23)


def test_rows_that_are_apart_have_bits_of_their_own() -> None:
    """And enough of them were compared."""
    found = fact(nothing)
    assert found.bitwise
    assert found.rows > 20


@pytest.mark.parametrize(
    ("change", "alone", "elsewhere"), [(by_number_of_rows, True, False), (by_place, True, True)], ids=["many", "place"]
)
def test_rows_that_depend_on_the_others_are_seen(
    change: Callable[[Launch], None], alone: bool, elsewhere: bool
) -> None:
    """One last bit is enough, and a case shows it."""
    found = fact(change)
    assert (found.alone > 0, found.elsewhere > 0) == (alone, elsewhere)
    assert found.shows


def test_padding_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the rows that compute: whoever finds a row's tokens by its number has them there alone."""
    asked: list[list[int]] = []
    real = invariance._results

    def watched(path: Path, host: Host, case: Case, shown: Presentation, order: Sequence[int]) -> Any:
        asked.append(list(order))
        return real(path, host, case, shown, order)

    monkeypatch.setattr(invariance, "_results", watched)
    rows = (Row(1, (0,)), Row(1, (1,)), Row(1, (2,)), Row(1, (None,)), Row(0, (None,)))
    case = Case(Geometry(1, 1, 8, 8), DTypes(), 3, (Batch(rows),))
    compare(find("fallback"), CPU, case, Presentation(), Fact("", "", ""))
    assert asked == [[0, 1, 2, 3, 4], [2, 1, 0, 3, 4], [0], [2]]


def test_it_is_a_law_for_who_claims_it_or_by_request() -> None:
    """Of the others it is a fact."""
    assert not fact(by_place).breaks(law=False)
    assert fact(by_place).breaks(law=True)
    assert fact(by_place, claimed=True).breaks(law=False)
    assert not Fact("a", "cpu", "decode", claimed=True, rows=3).breaks(law=True)
