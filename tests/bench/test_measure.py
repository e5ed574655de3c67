"""A run's flow, with a clock that counts: judged before timed, in turns, on cold caches, and nothing stops the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import benched
import pytest
import torch

pytest.importorskip("triton", reason="the yardsticks are Triton kernels")

from gdn_verify.bench.clock import Captured, Launches
from gdn_verify.bench.contender import Contender, Inputs, Results
from gdn_verify.bench.measure import Bench, measure
from gdn_verify.bench.record import Record, Verdict
from gdn_verify.bench.task import DECODE
from gdn_verify.bench.yardsticks import Yardstick
from gdn_verify.cases.contract import ConvLayout, DType


@dataclass
class Counting:
    """Captures by calling each launch once; each replay takes one unit more than the last."""

    name = "counting"
    means_something = False
    turns: list[int] = field(default_factory=list)
    stacks: list[int] = field(default_factory=list)

    def capture(self, launches: Launches) -> Captured:
        for launch in launches:
            launch()
        self.stacks.append(len(launches))
        return Captured(lambda: None, len(launches), float(len(self.stacks)))

    def burst(self, captured: Captured, count: int) -> list[float]:
        assert captured.launches is not None
        self.turns.append(int(captured.launches))
        return [float(len(self.turns)) + replay for replay in range(count)]


def bench(clock: Counting, **changed: object) -> Bench:
    """On the processor, without caches; the real yardsticks need a card or the interpreter."""
    task = replace(DECODE, yardsticks=lambda: [Yardstick("touch 1", lambda inputs: lambda: None)])
    plain = Bench(clock, "cpu", cache_bytes=0, free_bytes=lambda: 1 << 30, layers=2, rounds=3, burst=2, task=task)
    return replace(plain, **changed)


def measured(*contenders: Contender, **changed: object) -> dict[str, Record]:
    """Records by name, of one setting."""
    outcome = measure(contenders, [benched.setting()], bench(Counting(), **changed), lambda name: None)
    assert outcome.stopped == []
    return {record.contender: record for record in outcome.records}


def named(contender: Contender, name: str) -> Contender:
    """The same under another name."""
    return replace(contender, name=name)


def test_a_wrong_contender_gets_no_speed() -> None:
    """Its record says where it is wrong; those beside it are timed."""
    wrong = benched.misfed(A_log=lambda inputs: inputs.A_log - 100)
    records = measured(benched.fallback(), wrong)
    assert records["fallback"].verdict is Verdict.AGREES
    assert len(records["fallback"].device_us) == 6
    assert records["misfed"].verdict is Verdict.DISAGREES
    assert records["misfed"].device_us == records["misfed"].host_us == ()
    assert records["misfed"].ratio > records["misfed"].limit
    assert "[" in records["misfed"].words


def test_a_second_opinion_takes_the_speed_away() -> None:
    """A contender right on these inputs, against which the gate has something, is wrong."""
    opinions: dict[str, str] = {"second": "a bias"}
    opinion: Callable[..., str] = lambda contender, setting: opinions.get(contender.name, "")  # noqa: E731
    records = measured(named(benched.fallback(), "first"), named(benched.fallback(), "second"), second_opinion=opinion)
    assert records["first"].device_us
    assert (records["second"].verdict, records["second"].words) == (Verdict.DISAGREES, "a bias")
    assert not records["second"].device_us


def test_what_raises_or_refuses_is_recorded_with_its_words() -> None:
    """In the judge, in preparation, or within the capture."""

    def broken(inputs: Inputs) -> Callable[[], Results]:
        raise RuntimeError("no kernel image\nis available")

    def late(inputs: Inputs) -> Callable[[], Results]:
        calls.append(1)
        if len(calls) > 2:  # the judge prepares twice
            raise RuntimeError("not capturable")
        return benched.fallback().prepare(inputs)

    calls: list[int] = []
    refusing = replace(benched.fallback(), name="refusing", refuses=lambda setting: f"not N={setting.rows}")
    records = measured(
        refusing, replace(benched.fallback(), name="broken", prepare=broken),
        replace(benched.fallback(), name="late", prepare=late), benched.fallback(),
    )  # fmt: skip
    assert (records["refusing"].verdict, records["refusing"].words) == (Verdict.REFUSED, "not N=3")
    assert (records["broken"].verdict, records["broken"].words) == (Verdict.RAISED, "RuntimeError: no kernel image")
    assert (records["late"].verdict, records["late"].words) == (
        Verdict.RAISED,
        "captured: RuntimeError: not capturable",
    )
    assert records["fallback"].device_us


def test_contenders_take_turns_and_each_round_begins_with_another() -> None:
    """Three rounds over a yardstick and two contenders."""
    clock = Counting()
    pair = [named(benched.fallback(), "first"), named(benched.fallback(), "second")]
    measure(pair, [benched.setting()], bench(clock), lambda name: None)
    assert clock.turns == [1, 2, 3, 2, 3, 1, 3, 1, 2]


def test_states_are_fresh_before_every_turn() -> None:
    """Hundreds of updates would forget them, and zeros are faster than numbers."""
    seen = []

    def spy(inputs: Inputs) -> Callable[[], Results]:
        seen.append(inputs)
        return benched.fallback().prepare(inputs)

    measured(replace(benched.fallback(), name="spy", prepare=spy), layers=1)
    assert 0.08 < float(seen[-1].pool.std()) < 0.12


def test_the_stack_is_deep_enough_for_cold_caches() -> None:
    """Four times the caches' bytes are read before a layer comes again; where that does not fit, nothing is timed."""
    clock, small = Counting(), benched.setting(state=DType.BF16)
    slot = 4 * 16 * 8 * 2  # HV·V·K·2 bytes
    measure([benched.fallback()], [small], bench(clock, cache_bytes=3 * slot * 5), lambda name: None)
    assert clock.stacks == [20, 20]
    outcome = measure([benched.fallback()], [small], bench(clock, cache_bytes=1 << 40), lambda name: None)
    assert outcome.records == []
    assert "N=3, bfloat16 state: TooLargeError" in outcome.stopped[0]
    assert "cold caches" in outcome.stopped[0]


def test_one_setting_that_fails_leaves_the_others() -> None:
    """What stopped it is said."""
    free = iter((0, 1 << 30))
    shy = bench(Counting(), free_bytes=lambda: next(free))
    outcome = measure([benched.fallback()], [benched.setting(rows=1), benched.setting(rows=2)], shy, lambda name: None)
    assert {record.rows for record in outcome.records} == {2}
    assert outcome.stopped[0].startswith("N=1")


def test_what_was_measured_is_handed_out_after_every_setting() -> None:
    """A run that is killed has left the settings before; what it was at is told before it begins."""
    kept: list[int] = []
    told: list[str] = []
    settings = [benched.setting(rows=1), benched.setting(rows=2)]
    outcome = measure(
        [benched.fallback()], settings, bench(Counting()), told.append, lambda sofar: kept.append(len(sofar.records))
    )
    assert kept == [len(outcome.records) // 2, len(outcome.records)]
    assert told[0] == f"{settings[0]}: judging {benched.fallback().name}"
    assert told[1] == f"{settings[0]}: timing those that agree"


def test_layouts_have_stacks_of_their_own_and_one_problem() -> None:
    """Contenders of different layouts are timed together, each on what it asked for."""
    seen: dict[str, list[Inputs]] = {"DC": [], "CD": []}

    def spy(layout: ConvLayout) -> Contender:
        def prepare(inputs: Inputs) -> Callable[[], Results]:
            seen[layout].append(inputs)
            return benched.fallback().prepare(inputs)

        return replace(benched.fallback(conv_layout=layout), name=layout, prepare=prepare)

    records = measured(*map(spy, ConvLayout))
    assert all(records[layout].device_us for layout in ConvLayout)
    for one, other in zip(*seen.values(), strict=True):
        assert one.conv_pool.stride() != other.conv_pool.stride()
        assert torch.equal(one.qkvz, other.qkvz)
