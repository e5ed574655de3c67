"""The memory check: every byte that may not change, every element that must be written, every copy to the bit.

The launches are the fallback's, which is right; each test spoils one thing afterwards, or beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from check_cases import BF16, F32, LAYER, Idle, case_of, fed
from torch import Tensor

from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import (
    Conventions,
    ConvLayout,
    DType,
    DTypes,
    Geometry,
    PadPolicy,
    StateOrder,
)
from gdn_verify.cases.presentation import Poison, Presentation
from gdn_verify.checks import memory
from gdn_verify.feed import Feed, pools_after
from gdn_verify.paths.fallback import Fallback

PATH = Fallback()
GEOMETRY = Geometry(H=1, HV=2, K=4, V=3, W=4, num_spec=3)
S = GEOMETRY.S

ROWS: dict[str, tuple[Row, ...]] = {
    "decode": (Row(1, (2,)), Row(1, (0,))),
    "resumed prompt": (Row(6, (1,)),),
    "prompt shorter than the history": (Row(2, (1,)),),
    "fresh prompt": (Row(6, (0,), fresh=True),),
    "fresh and short": (Row(2, (0,), fresh=True), Row(1, (3,), fresh=True)),
    "separate read slot": (Row(2, (0,), read=2), Row(5, (1,), read=4)),
    "draft, one accepted": (Row(4, (0, 1, 2, 3), accepted=1),),
    "draft, three accepted": (Row(2, (3, 1, 0, 2), accepted=3),),
    "draft, all accepted, one token": (Row(1, (0, 1, 2, 3), accepted=4),),
    "draft with a dropped column": (Row(3, (0, 1, None, 3), accepted=2),),
    "mixed, with padding": (
        Row(1, (0,)), Row(0, (5,)), Row(1, (None,)), Row(3, (6, 1, 2, 3), accepted=2), Row(5, (4,), fresh=True)
    ),
}  # fmt: skip


def launch(case: Case, presentation: Presentation | None = None) -> Feed:
    """The case, launched once by the fallback."""
    feed = fed(case, PATH, presentation)
    PATH.run(feed.launch)
    return feed


def case_for(rows: tuple[Row, ...], dtypes: DTypes = F32, pad_tokens: int = 0) -> Case:
    return case_of(*rows, geometry=GEOMETRY, dtypes=dtypes, pad_tokens=pad_tokens)


def kinds(feed: Feed, conventions: Conventions = PATH.conventions) -> list[str]:
    return [finding.kind for finding in memory.judge(feed, conventions, pools_after(feed))]


def flip(tensor: Tensor) -> None:
    """Change the last bit of one element."""
    tensor.view(torch.int32 if tensor.element_size() == 4 else torch.int16).bitwise_xor_(1)


@pytest.mark.parametrize("dtypes", [F32, BF16, DTypes(DType.F32, DType.F32, DType.F16)], ids=["f32", "bf16", "f32/f16"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
class TestConvStates:
    """Copies of inputs, in every kind of row."""

    def test_a_right_launch_has_no_finding(self, rows, dtypes):
        """Whatever the layout, with slots apart and padding at the end."""
        shown = Presentation(conv_layout=ConvLayout.D_CONTIGUOUS, slot_pad=5, misalign=1, sentinel=-7, first_slot=1)
        assert kinds(launch(case_for(rows, dtypes, pad_tokens=2), shown)) == []
        assert kinds(launch(case_for(rows, dtypes))) == []

    def test_the_last_bit_of_every_written_column_is_seen(self, rows, dtypes):
        """Column by column: one that is written is a copy, one that is not keeps its bytes."""
        feed = launch(case_for(rows, dtypes))
        pool = feed.launch["conv_pool"]
        live = [(row, row.conv_slot) for _, row in feed.batch.live_rows()]
        for row, slot in live:
            last = GEOMETRY.W - 2 + row.tokens if row.spec else GEOMETRY.W - 1
            for column in range(GEOMETRY.C):
                flip(pool[slot, 2, column])
                found = kinds(feed)
                assert "copy of conv state" in found
                assert ("changed conv_pool" in found) == (column >= last)
                flip(pool[slot, 2, column])
        assert kinds(feed) == []


def test_a_shown_stage_is_zeros_for_padded_rows_where_that_is_promised():
    """For their tokens, not for those behind the last row; and nothing is asked where nothing is promised."""
    feed = launch(case_for((Row(1, (0,)), Row(2, (None,)), Row(1, (1,))), pad_tokens=1))
    promised = Conventions(pad_outputs=(("conv", PadPolicy.ZEROS),))
    conv = torch.ones(5, GEOMETRY.D)
    conv[1:3] = 0
    assert memory.padded_stages(feed, promised, {"conv": conv, "g": conv}) == []
    for token in (1, 2):
        wrong = conv.clone()
        wrong[token, 3] = torch.nan
        (found,) = memory.padded_stages(feed, promised, {"conv": wrong})
        assert found.kind == "padding of conv"
        assert memory.padded_stages(feed, Conventions(), {"conv": wrong}) == []


def expected_columns(before: Tensor, x: Tensor, row: Row) -> Tensor:
    """The conv slot after a draft, [D, C], written down from the contract: old[a : a+W-2] ‖ x, the rest as it was."""
    a, after = row.accepted, before.clone()
    assert a is not None
    for column in range(GEOMETRY.W - 2):
        after[:, column] = before[:, a + column]
    for token in range(row.tokens):
        after[:, GEOMETRY.W - 2 + token] = x[token]
    return after


@pytest.mark.parametrize("accepted", range(1, S + 1))
@pytest.mark.parametrize("tokens", range(1, S + 1))
def test_a_drafts_conv_state_is_the_contracts(tokens, accepted):
    """The columns written down by hand agree; a history taken one token too early does not."""
    row = Row(tokens, tuple(range(S)), accepted=accepted)
    feed = fed(case_for((row,)), Idle(LAYER))
    before, pool = feed.before.conv, feed.launch["conv_pool"]
    assert before is not None
    feed.launch["z_out"].copy_(feed.rounded["z"])
    pool[0] = expected_columns(before[0], feed.rounded["x"], row)
    assert kinds(feed) == []
    if accepted > 1:
        pool[0] = expected_columns(before[0], feed.rounded["x"], replace(row, accepted=accepted - 1))
        assert "copy of conv state" in kinds(feed)


def spoil_out(feed: Feed) -> None:
    feed.launch["out"][-1, 0, 0] = 1.0


def spoil_z(feed: Feed) -> None:
    flip(feed.launch["z_out"][0, 1, 2])


def spoil_free_slot(feed: Feed) -> None:
    flip(feed.launch["ssm_pool"][7, 1, 2, 3])


def spoil_free_conv_slot(feed: Feed) -> None:
    flip(feed.launch["conv_pool"][7, 0, 0])


def spoil_sentinel_column(feed: Feed) -> None:
    flip(feed.launch["ssm_pool"][3, 0, 0, 0])


def spoil_empty_row(feed: Feed) -> None:
    flip(feed.launch["ssm_pool"][5, 0, 0, 0])


def spoil_empty_rows_conv(feed: Feed) -> None:
    flip(feed.launch["conv_pool"][5, 0, 0])


def spoil_read_slot(feed: Feed) -> None:
    flip(feed.launch["ssm_pool"][6, 0, 0, 0])


def beyond(name: str, elements: int) -> Callable[[Feed], None]:
    """Write one element so many places from the start of a pool or an output."""

    def spoil(feed: Feed) -> None:
        view = feed.launch[name]
        arena_bytes = view.as_strided((1,), (1,), view.storage_offset() + elements)
        flip(arena_bytes)

    return spoil


MIXED = (Row(2, (0, 1, None, 2), accepted=1), Row(0, (5,)), Row(4, (4,), read=6), Row(1, (None,)))
SPOILT = {
    "padded token's output": (spoil_out, "padding of out"),
    "z": (spoil_z, "copy of z"),
    "free slot": (spoil_free_slot, "changed ssm_pool"),
    "free conv slot": (spoil_free_conv_slot, "changed conv_pool"),
    "slot that nothing names": (spoil_sentinel_column, "changed ssm_pool"),
    "zero-length row's slot": (spoil_empty_row, "changed ssm_pool"),
    "zero-length row's conv slot": (spoil_empty_rows_conv, "changed conv_pool"),
    "slot that is only read": (spoil_read_slot, "changed ssm_pool"),
    "hole between slots": (beyond("ssm_pool", 2 * 3 * 4 + 1), "changed ssm_pool"),
    "hole between conv slots": (beyond("conv_pool", (2 * 4 + 2 * 3) * 6 + 2), "changed conv_pool"),
}


@pytest.mark.parametrize(("spoil", "kind"), SPOILT.values(), ids=SPOILT)
def test_what_may_not_change_is_watched(spoil, kind):
    """One bit in a right launch of a draft, an empty row, a row with separate slots and a padded one."""
    feed = launch(case_of(*MIXED, geometry=GEOMETRY, slots=8), Presentation(slot_pad=9))
    assert kinds(feed) == []
    spoil(feed)
    assert kinds(feed) == [kind]


def test_padding_has_its_own_z_where_a_path_promises_copies():
    """A kernel that gave the tokens of no row another token's z went unseen."""
    copies = replace(PATH.conventions, pad_outputs=(("out", PadPolicy.ZEROS), ("z_out", PadPolicy.COPIES)))
    feed = launch(case_for(ROWS["decode"], pad_tokens=2))
    assert kinds(feed, copies) == []
    flip(feed.launch["z_out"][-1, 0, 0])
    assert kinds(feed) == []
    assert kinds(feed, copies) == ["copy of z"]


@pytest.mark.parametrize("name", ["qkvz", "ba", "conv_weight", "dt_bias", "query_start_loc", "state_indices"])
def test_inputs_may_not_change(name):
    """Activations, parameters and tables keep every bit."""
    feed = launch(case_for(ROWS["decode"]))
    tensor = feed.launch[name]
    tensor.view(torch.uint8).view(-1)[0] ^= 1
    assert kinds(feed) == [f"changed {name}"]


@pytest.mark.parametrize("name", ["out", "ssm_pool", "qkvz"])
def test_guards_may_not_change(name):
    """The byte before a buffer belongs to nobody."""
    import ctypes

    feed = launch(case_for(ROWS["decode"]))
    address = feed.launch[name].data_ptr() - 1
    ctypes.memset(address, ctypes.c_ubyte.from_address(address).value ^ 1, 1)
    assert kinds(feed) == [f"changed {name}"]


def test_a_scratch_slot_may_hold_anything():
    """Where a path declares one, and nowhere else."""
    feed = launch(case_for(ROWS["decode"]))
    flip(feed.launch["ssm_pool"][1, 0, 0, 0])
    assert kinds(feed) == ["changed ssm_pool"]
    assert kinds(feed, replace(PATH.conventions, scratch_slot=1)) == []


@pytest.mark.parametrize(
    ("policy", "value", "kind"),
    [
        (PadPolicy.ZEROS, 0.0, []),
        (PadPolicy.ZEROS, 1e-30, ["padding of out"]),
        (PadPolicy.ZEROS, float("nan"), ["padding of out"]),
        (PadPolicy.UNTOUCHED, None, []),
        (PadPolicy.UNTOUCHED, 0.0, ["changed out"]),
        (PadPolicy.UNSPECIFIED, None, []),
        (PadPolicy.UNSPECIFIED, 3.0, []),
    ],
)
@pytest.mark.parametrize("poison", Poison)
def test_padding_follows_the_declared_policy(policy, value, kind, poison):
    """Zeros, the bytes that were there, or anything at all; for padded rows and for tokens beyond the last row."""
    feed = launch(case_for((Row(1, (0,)), Row(1, (None,))), pad_tokens=1), Presentation(poison=poison))
    for token in (1, 2):
        feed.launch["out"][token] = 0.0 if policy is PadPolicy.ZEROS else _poison(feed)[token]
    if value is not None:
        feed.launch["out"][2, 1, 0] = value
    assert kinds(feed, replace(PATH.conventions, pad_outputs=(("out", policy),))) == kind


def _poison(feed: Feed) -> Tensor:
    """What `out` held before the launch."""
    return fed(feed.case, PATH, feed.presentation).launch["out"]


@pytest.mark.parametrize("poison", Poison)
class TestUnwritten:
    """An element that no launch wrote, and one that happens to equal the poison."""

    def feed(self, poison: Poison) -> Feed:
        return launch(case_for(ROWS["decode"], BF16, pad_tokens=1), Presentation(poison=poison))

    def again(self, damage: Callable[[Feed], None]) -> Callable[[Poison], Feed]:
        def rerun(poison: Poison) -> Feed:
            second = self.feed(poison)
            damage(second)
            return second

        return rerun

    def test_a_written_launch_needs_no_second_run(self, poison):
        """The common way out; padded tokens may hold anything."""

        def never(_: Poison) -> Feed:
            raise AssertionError

        assert memory.unwritten(self.feed(poison), never) == []

    @pytest.mark.parametrize("name", ["out", "z_out"])
    def test_an_element_left_out_is_found(self, poison, name):
        """It holds the one poison, and in the second run the other."""

        def leave_out(feed: Feed) -> None:
            feed.launch[name][1, 0, 2] = fed(feed.case, PATH, feed.presentation).launch[name][1, 0, 2]

        feed = self.feed(poison)
        leave_out(feed)
        (finding,) = memory.unwritten(feed, self.again(leave_out))
        assert finding.kind == f"unwritten {name}"
        assert "(1, 0, 2)" in finding.message

    def test_a_result_that_equals_a_finite_poison_is_cleared(self, poison):
        """A 16-bit result may have that very pattern: the second run computes it again. No result is the NaN."""
        feed = self.feed(poison)
        feed.launch["out"][1, 0, 2] = _poison(feed)[1, 0, 2]
        found = memory.unwritten(feed, self.again(lambda second: None))
        assert [finding.kind for finding in found] == (["unwritten out"] if poison is Poison.NAN else [])


@pytest.mark.parametrize("order", StateOrder)
def test_bytes_are_read_in_the_contracts_layout(order):
    """What the pools hold after the launch is [P, HV, V, K] and [P, D, C], however they lie in memory."""
    shown = Presentation(state_order=order, conv_layout=ConvLayout.D_CONTIGUOUS, slot_pad=3)
    after = pools_after(launch(case_for(ROWS["decode"]), shown))
    plain = pools_after(launch(case_for(ROWS["decode"])))
    assert after.ssm is not None
    assert torch.equal(after.ssm.view(torch.int32), plain.ssm.view(torch.int32))  # type: ignore[union-attr]
    assert torch.equal(after.conv.view(torch.int32), plain.conv.view(torch.int32))  # type: ignore[union-attr]


def test_values_of_a_launch_are_not_the_memory_checks_business():
    """A wrong output and a wrong state in their places are bytes that may change."""
    feed = launch(case_for(ROWS["decode"]))
    feed.launch["out"].mul_(2.0)
    feed.launch["ssm_pool"][0].zero_()
    assert kinds(feed) == []
