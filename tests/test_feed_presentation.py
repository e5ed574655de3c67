"""Every field of a presentation and of a case reaches the tensors of the launch: asserted on the tensors themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gdn_verify.arena import Poison as Pattern
from gdn_verify.cases import problem
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import (
    ConvLayout,
    DType,
    DTypes,
    Geometry,
    Options,
    Packing,
    Span,
    Stage,
    StateOrder,
)
from gdn_verify.cases.presentation import IndexType, Poison, Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.checks.question import ask, double
from gdn_verify.feed import Feed, feed, initial_pools, pools_after
from gdn_verify.kernels.stages import unpack
from gdn_verify.paths.fallback import Fallback
from gdn_verify.paths.fla import FlaRecurrent
from gdn_verify.paths.fused import FusedDecode

LAYER, DENSE = Fallback(), FlaRecurrent()
GEOMETRY = Geometry(H=2, HV=4, K=4, V=3, W=4, num_spec=2)
DTYPES = DTypes(DType.BF16, DType.F16, DType.BF16, DType.F32, DType.F16)
NORMAL = Values(
    3, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.NORMAL, Betas.NORMAL, States.NORMAL, Taps.NORMAL, Fill.NORMAL
)
ROWS = (Row(3, (1, 4, 6), accepted=2), Row(1, (None,)), Row(2, (3,)), Row(2, (5,), fresh=True), Row(2, (0,), read=7))
CASE = Case(GEOMETRY, DTYPES, 9, (Batch(ROWS, pad_tokens=2),), NORMAL, Options(conv_bias=True))
PADDED = [3, 10, 11]  # the padded row's token, and those beyond the last row
DENSE_CASE = Case(Geometry(2, 4, 4, 3), DTYPES, 2, (Batch((Row(3, (0,)), Row(2, (1,), fresh=True))),), NORMAL)


def fed(case: Case = CASE, path=LAYER, number: int = 0, **shown: object) -> Feed:
    presentation = Presentation(**shown)  # type: ignore[arg-type]
    return feed(case, number, path, presentation, initial_pools(case, path, presentation), "cpu")


def poisoned(tensor: Tensor, poison: Poison = Poison.NAN) -> Tensor:
    """Where a tensor holds the poison's bits."""
    carrier = torch.int16 if tensor.element_size() == 2 else torch.int32
    return tensor.view(carrier) == Pattern(poison.value).bits(tensor.dtype)


def same(a: Tensor, b: Tensor) -> bool:
    carrier = torch.int16 if a.element_size() == 2 else torch.int32
    return torch.equal(a.contiguous().view(carrier), b.contiguous().view(carrier))


def slot_stride(name: str) -> Callable[[Feed], int]:
    return lambda feed: feed.launch[name].stride(0)


SHIFTED = ("qkvz", "ba", "ssm_pool", "conv_pool", "out")
SEEN: dict[str, tuple[object, Callable[[Feed], object], object]] = {
    # field: the value given, what is looked at in the launch, what it must be
    "packing": (Packing.INTERLEAVED, lambda f: _unpacked(f, "interleaved"), True),
    "state_order": (StateOrder.KV, lambda f: tuple(f.launch["ssm_pool"].shape), (9, 4, 4, 3)),
    "conv_layout": (ConvLayout.D_CONTIGUOUS, lambda f: f.launch["conv_pool"].stride()[1:], (1, GEOMETRY.D)),
    "slot_pad": (5, slot_stride("ssm_pool"), 4 * 3 * 4 + 5),
    "row_pad": (3, slot_stride("qkvz"), 2 * (2 * 4 + 4 * 3) + 3),
    "misalign": (1, lambda f: {f.launch[name].data_ptr() % 256 for name in SHIFTED}, {2}),
    "index_type": (IndexType.I64, lambda f: f.launch["state_indices"].dtype, torch.int64),
    "sentinel": (-7, lambda f: f.launch["state_indices"][1].tolist(), [-7, -7, -7]),
    "first_slot": (1, lambda f: f.launch["state_indices"][0].tolist(), [2, 5, 7]),
    "table_pad": (2, slot_stride("state_indices"), 3 + 2),
    "table_step": (2, lambda f: f.launch["state_indices"].stride(1), 2),
    "row_step": (2, lambda f: f.launch["num_accepted_tokens"].stride(0), 2),
    "poison": (Poison.HUGE, lambda f: bool(poisoned(f.launch["out"], Poison.HUGE).all()), True),
}  # fmt: skip


def _unpacked(feed: Feed, style: str) -> bool:
    """Whether the packed projections hold x, z, b and a, where tokens are live."""
    g, live = GEOMETRY, torch.from_numpy(feed.live_tokens)
    parts = unpack(feed.launch["qkvz"], feed.launch["ba"], g.H, g.HV, g.K, g.V, style)
    return all(same(part[live], feed.rounded[name][live]) for name, part in zip("xzba", parts, strict=True))


def test_every_field_is_listed():
    """A new field comes with the tensor in which it shows."""
    assert SEEN.keys() == {field.name for field in fields(Presentation)}


@pytest.mark.parametrize("name", SEEN)
def test_a_field_shows_in_the_launch(name):
    """With it the tensors are as asked, and without it they are not."""
    given, look, want = SEEN[name]
    assert look(fed(**{name: given})) == want
    assert look(fed()) != want


@pytest.mark.parametrize("packing", Packing)
def test_packing_is_the_projections_own(packing):
    """Either way the parts come back bit for bit."""
    assert _unpacked(fed(packing=packing), packing.value)


@pytest.mark.parametrize("shown", [{}, {"slot_pad": 7, "misalign": 3}, {"state_order": StateOrder.KV, "first_slot": 1}])
def test_the_pools_in_memory_are_the_pools_before(shown):
    """Read back in the contract's layout, whatever the strides: the launch starts from the bytes that are judged."""
    feed = fed(**shown)
    after = pools_after(feed)
    assert same(after.ssm, feed.before.ssm)  # type: ignore[arg-type]
    assert same(after.conv, feed.before.conv)  # type: ignore[arg-type]


@pytest.mark.parametrize("poison", Poison)
@pytest.mark.parametrize("first", [0, 1])
class TestPoison:
    """What may not be read holds poison; what is read does not."""

    def test_slots(self, poison, first):
        """Of the ssm pool a draft reads column a-1, a plain row its slot or its read slot, a fresh row none."""
        pool = fed(poison=poison, first_slot=first).launch["ssm_pool"]
        whole = poisoned(pool, poison).flatten(1)
        read = {4 + first, 3 + first, 7 + first}
        assert {slot for slot in range(len(pool)) if not whole[slot].any()} == read
        assert {slot for slot in range(len(pool)) if whole[slot].all()} == set(range(9 + first)) - read

    def test_conv_columns(self, poison, first):
        """A draft reads W-1 columns from a-1 on, in slot 0 of its table; a plain row the first W-1."""
        held = poisoned(fed(poison=poison, first_slot=first).launch["conv_pool"], poison)
        assert (held.all(dim=1) == held.any(dim=1)).all()
        clean = {1 + first: [1, 2, 3], 3 + first: [0, 1, 2], 7 + first: [0, 1, 2]}
        for slot in range(9 + first):
            assert (~held[slot, 0]).nonzero().flatten().tolist() == clean.get(slot, [])

    def test_tokens(self, poison, first):
        """Inputs of padded tokens; not z, which is passed through for every token."""
        feed = fed(poison=poison, first_slot=first)
        x, z, b, a = unpack(feed.launch["qkvz"], feed.launch["ba"], 2, 4, 4, 3, "flat")
        for part in (x, b, a):
            assert poisoned(part, poison).flatten(1).all(dim=1).nonzero().flatten().tolist() == PADDED
            assert same(part[torch.from_numpy(feed.live_tokens)], feed.rounded[_name(part, x, b)][feed.live_tokens])
        assert same(z, feed.rounded["z"])

    def test_outputs(self, poison, first):
        """All of them, before the launch."""
        feed = fed(poison=poison, first_slot=first)
        assert poisoned(feed.launch["out"], poison).all()
        assert poisoned(feed.launch["z_out"], poison).all()


def _name(part: Tensor, x: Tensor, b: Tensor) -> str:
    return "x" if part is x else "b" if part is b else "a"


def test_tables_say_what_the_rows_say():
    """Starts, fresh rows, slots, read slots and accepted counts."""
    launch = fed(first_slot=1, sentinel=-1).launch
    assert launch["query_start_loc"].tolist() == [0, 3, 4, 6, 8, 10]
    assert launch["has_initial_state"].tolist() == [True, True, True, False, True]
    assert launch["state_indices"].tolist() == [[2, 5, 7], [-1, -1, -1], [4, -1, -1], [6, -1, -1], [1, -1, -1]]
    assert launch["num_accepted_tokens"].tolist() == [2, 3, 0, -3, 5]
    assert launch["spec_rows"].tolist() == [True, False, False, False, False]
    assert launch["read_indices"].tolist() == [2, -1, 4, 6, 8]


def test_dtypes_reach_their_tensors():
    """Activations, pools and parameters have their own."""
    launch = fed().launch
    types = {name: launch[name].dtype for name in ("qkvz", "ba", "out", "z_out", "ssm_pool", "conv_pool", "A_log")}
    bf16, f16 = torch.bfloat16, torch.float16
    assert types == dict(zip(types, [bf16, bf16, bf16, bf16, f16, bf16, f16], strict=True))
    gates = fed(DENSE_CASE, DENSE).launch
    assert (gates["g"].dtype, gates["beta"].dtype, gates["q"].dtype) == (torch.float32, torch.float32, bf16)


def test_inputs_are_the_recipes_rounded_to_nearest():
    """The float64 numbers of the case, to nearest and ties to even, in bits."""
    feed = fed()
    for name, value in problem.activations(CASE, 0, LAYER.capabilities.span).items():
        want = torch.from_numpy(value).float().to(torch.bfloat16)
        assert same(feed.rounded[name], want)
    for name, value in problem.parameters(CASE, LAYER.capabilities.span).items():
        dtype = torch.float16 if name in ("A_log", "dt_bias") else torch.float32
        assert same(feed.launch[name], torch.from_numpy(value.astype(np.float32)).to(dtype))


def test_the_oracle_is_asked_what_the_launch_holds():
    """Live tokens of the unpacked projections, states and histories from the pools: the same to the last bit."""
    feed = fed(packing=Packing.INTERLEAVED, first_slot=1, slot_pad=3, row_pad=2, state_order=StateOrder.KV)
    asked = ask(feed, LAYER.capabilities.span)
    live, launch, g = torch.from_numpy(feed.live_tokens), feed.launch, GEOMETRY
    parts = unpack(launch["qkvz"], launch["ba"], g.H, g.HV, g.K, g.V, "interleaved")
    for name, part in zip("xzba", parts, strict=True):
        np.testing.assert_array_equal(asked.tensors[name], double(part[live]))
    for name in ("conv_weight", "conv_bias", "A_log", "dt_bias", "norm_weight"):
        np.testing.assert_array_equal(asked.tensors[name], double(launch[name]))
    pool, conv = double(launch["ssm_pool"]).swapaxes(-1, -2), double(launch["conv_pool"])
    assert asked.state is not None
    assert asked.history is not None
    np.testing.assert_array_equal(asked.state, np.stack([pool[5], pool[4], np.zeros_like(pool[0]), pool[8]]))
    columns = [conv[2, :, 1:4], conv[4, :, :3], np.zeros((g.D, 3)), conv[8, :, :3]]
    np.testing.assert_array_equal(asked.history, np.stack(columns))
    assert asked.query_start_loc.tolist() == [0, 3, 5, 7, 9]
    assert asked.every_token


@pytest.mark.parametrize("order", StateOrder)
def test_a_dense_path_gets_states_by_rows(order):
    """Zeros for a fresh row, in the order asked, and no slot table."""
    feed = fed(DENSE_CASE, DENSE, state_order=order)
    state = feed.launch["initial_state"]
    state = state.transpose(-1, -2) if order is StateOrder.KV else state
    assert same(state[0], feed.before.ssm[0])  # type: ignore[index]
    assert not state[1].any()
    assert feed.launch.get("state_indices") is None
    asked = ask(feed, Span(Stage.DELTA, Stage.DELTA))
    np.testing.assert_array_equal(asked.state, double(state))  # type: ignore[arg-type]
    for name in ("q", "k", "v", "g", "beta"):
        np.testing.assert_array_equal(asked.tensors[name], double(feed.launch[name]))


@pytest.mark.parametrize("name", ["row_pad", "misalign"])
def test_activations_of_a_dense_path_are_strided_and_shifted_too(name):
    """Each of q, k, v, g and beta."""
    feed = fed(DENSE_CASE, DENSE, **{name: 3})
    for key in ("q", "k", "v", "g", "beta"):
        tensor = feed.launch[key]
        length = tensor[0].numel()
        pads = 2 if key in ("k", "beta") else 1
        assert tensor.stride(0) == length + (3 * pads if name == "row_pad" else 0)
        assert tensor.data_ptr() % 256 == (3 * tensor.element_size() if name == "misalign" else 0)


CHAIN = Case(
    GEOMETRY,
    DTYPES,
    5,
    (
        Batch((Row(4, (0,), fresh=True), Row(1, (3,)))),
        Batch((Row(3, (0, 1, 2), accepted=1), Row(1, (3,)))),
        Batch((Row(2, (0, 1, 2), accepted=3),)),
    ),
    NORMAL,
)


def test_a_later_batch_starts_from_the_bytes_that_were_left():
    """The pools after one launch are the pools before the next, and its inputs are its own."""
    presentation = Presentation(slot_pad=2, first_slot=1)
    pools = initial_pools(CHAIN, LAYER, presentation)
    inputs = []
    for number in range(3):
        now = feed(CHAIN, number, LAYER, presentation, pools, "cpu")
        assert same(now.launch["ssm_pool"], pools.ssm)  # type: ignore[arg-type]
        assert same(now.launch["conv_pool"], pools.conv)  # type: ignore[arg-type]
        LAYER.run(now.launch)
        left, pools = pools, pools_after(now)
        assert not same(left.ssm, pools.ssm)  # type: ignore[arg-type]
        inputs.append(now.rounded["x"])
    assert not torch.equal(inputs[0][:2], inputs[2])


def test_columns_that_a_later_launch_may_read_are_not_poisoned():
    """A slot first read in the second launch holds numbers in every column."""
    rows = (Batch((Row(1, (0,)),)), Batch((Row(1, (2, 3, 4), accepted=3),)))
    pools = initial_pools(replace(CHAIN, batches=rows), LAYER, Presentation())
    assert pools.conv is not None
    held = poisoned(pools.conv)[:, 0]
    assert held[:, :].tolist() == [[False] * 3 + [True] * 2, [True] * 5, [False] * 5, [True] * 5, [True] * 5]


def test_a_row_without_initial_state_may_name_no_slot_to_read_from():
    """Every other one: it is live, as nothing is read."""
    rows = (Row(2, (3,), fresh=True), Row(1, (5,), read=2), Row(2, (4,), fresh=True), Row(2, (1,), fresh=True))
    case = replace(CASE, batches=(Batch(rows),))
    assert fed(case, first_slot=1, sentinel=-1).launch["read_indices"].tolist() == [-1, 3, -1, 2]


def test_a_path_that_reads_where_it_writes_gets_no_table_of_slots_to_read_from():
    """A row that names its own slot says nothing new; whoever takes such a table gets it all the same."""
    case = replace(CASE, batches=(Batch((Row(1, (3,), read=3), Row(1, (5,)))),))
    assert fed(case).launch["read_indices"].tolist() == [3, 5]
    assert fed(case, FusedDecode()).launch.get("read_indices") is None
