"""Relays: what several paths take together, whose turn a launch is, and what each launch is held to."""

from __future__ import annotations

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import ContractError, Dims, DType, DTypes, Geometry, Group, IdRule, Kind, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.topics import Series
from gdn_verify.paths import UnknownPathError, find, registered
from gdn_verify.paths.relay import RELAYS, relays, topics

DECODE = Batch((Row(1, (0,)), Row(1, (2,))))
DRAFT = Batch((Row(2, (0, 1), accepted=1),))
MIXED = Batch((Row(1, (0,)), Row(5, (2,), fresh=True)))
TEAM = find("fallback+fused-decode+fused-spec")


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        (DECODE, ["fallback", "fused-decode", "fallback"]),
        (DRAFT, ["fallback", "fused-spec", "fallback"]),
        (MIXED, ["fallback"] * 3),
        (Batch((*DRAFT.rows, Row(1, (None,)))), ["fallback"] * 3),
        (Batch((*DRAFT.rows, Row(1, (None, None), accepted=1))), ["fallback", "fused-spec", "fallback"]),
        (Batch((Row(1, (None,)),)), ["fallback", "fused-decode", "fallback"]),
    ],
    ids=["decode", "draft", "mixed", "plain padding beside a draft", "a draft of padding", "padding"],
)
def test_a_launch_goes_to_the_next_that_takes_it(batch: Batch, names: list[str]) -> None:
    """The number of the launch settles whose turn it is, so a case file replays."""
    assert [TEAM.serving(batch, number).name for number in range(3)] == names


def test_a_relay_takes_the_rows_of_its_first_and_the_sizes_of_all() -> None:
    """What one of them has not is drawn for none."""
    team = find("conv-chunk-delta+two-launch-decode")
    first, second = find("conv-chunk-delta").capabilities, find("two-launch-decode").capabilities
    assert team.capabilities.groups == first.groups == {Group.DECODE, Group.PREFILL}
    assert team.capabilities.separate_slots
    assert team.capabilities.activations == first.activations & second.activations
    assert isinstance(team.capabilities.key_dim, Dims)


def test_padding_is_what_all_take_for_padding() -> None:
    """A reserved slot 0 of one is nobody's for the others too."""
    team = find("fallback+fused-decode-null")
    rules = {rule for stage, rule in team.conventions.pads if stage is Stage.DELTA}
    assert rules == {IdRule.OUTSIDE, IdRule.NOT_POSITIVE}
    assert team.conventions.reserves_zero
    assert team.conventions.pad_ids(4) == (-1, -7)


def test_each_launch_is_held_to_its_own_kernels_rounding() -> None:
    """A fused decode keeps in float32 what the fallback rounds."""
    case = Case(Geometry(1, 1, 8, 8), DTypes(activation=DType.BF16), 3, (DECODE,))
    fused = TEAM.serving(DECODE, 1)
    assert fused.kernels == ("gdn_decode_kernel",)
    shown = Presentation()
    assert fused.rounding(case, shown, "interpreter") != TEAM.serving(DECODE, 0).rounding(case, shown, "interpreter")


def test_relays_run_where_their_kernels_do() -> None:
    """Torch code goes along anywhere; on the cpu no kernel runs."""
    on = ("interpreter", "cuda", "rocm", "gfx942", "gfx950")
    assert TEAM.hosts == on
    assert find("fallback+dispatch").hosts == on


def test_relays_are_planned_where_all_members_are() -> None:
    """And judged on trajectories alone."""
    found = relays(registered().values())
    assert tuple(team.name for team in found) == RELAYS
    assert [team.name for team in relays([find("fallback"), find("dispatch")])] == ["fallback+dispatch"]
    assert topics(found[0]) == (Series.TRAJECTORY,)
    assert topics(find("fused-decode")) == (Kind.DECODE, Series.TRAJECTORY)
    assert topics(find("transformers-recurrent"))[-1] is not Series.TRAJECTORY


@pytest.mark.parametrize(
    ("name", "words"),
    [("fallback+chunk-delta", "the span"), ("fused-decode+fallback", "name it later")],
    ids=["other stages", "the narrower first"],
)
def test_paths_that_do_not_fit_are_refused(name: str, words: str) -> None:
    """With both names."""
    with pytest.raises(ContractError, match=words):
        find(name)


def test_an_unknown_member_is_unknown() -> None:
    """As it is alone."""
    with pytest.raises(UnknownPathError, match="'nobody'"):
        find("fallback+nobody")
