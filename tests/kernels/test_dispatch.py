"""The dispatcher: every row reaches exactly one route, in any order, and the launch leaves the fallback's bits.

The fast kernels are stand-ins here (`stubs`), so this is about routing alone, on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gdn_verify.kernels import dispatch, fallback, fast
from gdn_verify.kernels.dispatch import gated_delta_net_packed
from gdn_verify.kernels.plan import LaunchPlan, classify, plan_rows, read_plan
from gdn_verify.kernels.tables import Row, build_tables

from .launches import Launch, launches, same_bits
from .stubs import Stubs, by_row

# The fixtures hold no state from one example to the next: `stubs` is emptied by `dispatched`.
relaxed = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Stubs:
    """Fast kernels that can run everywhere; the standard path is watched too."""
    made = Stubs()
    monkeypatch.setattr(fast, "kernels_missing", lambda device_type, name: None)
    monkeypatch.setattr(fast, "kernels", lambda name: made.kernels)

    def watched(*operands: Any, stages: dict[str, Tensor] | None, **options: Any) -> tuple[Tensor, Tensor]:
        made.note("standard", operands[5], len(operands[0]), len(operands[4]), options["pad_slot_id"])
        if stages is None:
            return by_row(*operands, **options)
        return standard(*operands, stages=stages, **options)

    standard = fallback.gated_delta_net_packed

    monkeypatch.setattr(dispatch.fallback, "gated_delta_net_packed", watched)
    return made


@pytest.fixture(autouse=True)
def _probe_afresh() -> Iterator[None]:
    yield
    fast.kernels_missing.cache_clear()


def dispatched(launch: Launch, stubs: Stubs | None = None, **options: Any) -> tuple[Tensor, ...]:
    """(out, z of the rows' tokens, conv pool, pool) after the dispatcher has run on copies of the pools."""
    if stubs is not None:
        stubs.calls.clear()
        stubs.keywords.clear()
    conv_pool, pool = launch.conv_pool.clone(), launch.pool.clone()
    out, z = gated_delta_net_packed(
        launch.qkvz, launch.ba, launch.layer, conv_pool, pool, launch.tables, packing=launch.packing,
        state_order=launch.state_order, pad_slot_id=launch.pad_slot_id, **options,
    )  # fmt: skip
    return out, z[: sum(row.length for row in launch.rows)], conv_pool, pool


def expected(launch: Launch) -> tuple[Tensor, ...]:
    """The same from the fallback, row by row."""
    conv_pool, pool = launch.conv_pool.clone(), launch.pool.clone()
    out, z = by_row(
        launch.qkvz, launch.ba, launch.layer, conv_pool, pool, launch.tables, packing=launch.packing,
        state_order=launch.state_order, pad_slot_id=launch.pad_slot_id,
    )  # fmt: skip
    return out, z[: sum(row.length for row in launch.rows)], conv_pool, pool


def assert_same(actual: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for name, x, y in zip(("out", "z", "conv pool", "pool"), actual, wanted, strict=True):
        assert same_bits(x, y), name


def live_rows_by_route(launch: Launch) -> dict[str, set[int]]:
    """Which live row belongs to which route, from the rows' descriptions alone."""
    starts, found = 0, {"decode": set(), "spec": set(), "prefill": set(), "standard": set()}
    live = {row.start for row in launch.live}
    for number, row in enumerate(launch.rows):
        if row.length and starts in live:
            plain = row.accepted is None
            in_place = row.read_slot in (None, row.slots[0]) and not row.fresh
            if plain:
                name = "decode" if row.length == 1 and in_place else "prefill"
            else:
                name = "standard" if row.fresh else "spec"
            found[name].add(number)
        starts += row.length
    return found


@relaxed
@given(launch=launches())
def test_any_launch_leaves_the_fallbacks_bits(stubs, launch):
    """Rows of all kinds and paddings in any order: out, z and both pools, NaN wherever nothing may be read."""
    assert_same(dispatched(launch, stubs), expected(launch))


@relaxed
@given(launch=launches())
def test_every_live_row_reaches_its_one_route(stubs, launch):
    """No row is served twice or forgotten, and each by the kernel for its kind."""
    dispatched(launch, stubs)
    served = {"decode": set(), "spec": set(), "prefill": set(), "standard": set()}
    for name, rows in stubs.calls:
        assert not served[name]
        served[name] = rows
    assert served == live_rows_by_route(launch)


@relaxed
@given(launch=launches(), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(stubs, launch, order):
    """Permuted rows, their tokens moved along: each row's output and the pools keep their bits."""
    numbers = list(range(len(launch.rows)))
    order.shuffle(numbers)
    starts = launch.tables.query_start_loc.tolist()
    tokens = [t for n in numbers for t in range(starts[n], starts[n + 1])]
    filled = len(tokens)
    tokens += range(filled, len(launch.qkvz))
    width = None if launch.tables.num_accepted_tokens is None else launch.tables.width
    rows = [launch.rows[n] for n in numbers]
    moved = replace(
        launch, rows=rows, tables=build_tables(rows, width=width), qkvz=launch.qkvz[tokens], ba=launch.ba[tokens]
    )
    out, z, *pools = dispatched(launch, stubs)
    assert_same(dispatched(moved, stubs), (out[tokens], z[tokens[:filled]], *pools))


@relaxed
@given(launch=launches(), data=st.data())
def test_the_callers_buffers_are_filled(stubs, launch, data):
    """`output` and `z_output` of any row stride, NaN before, hold what is returned without them."""
    out, z, *pools = expected(launch)
    shape = (len(out), out.shape[1] + data.draw(st.integers(0, 2)), out.shape[2])
    output, z_output = (torch.full(shape, float("nan"), dtype=x.dtype)[:, : x.shape[1]] for x in (out, out))
    result = dispatched(launch, stubs, output=output, z_output=z_output)
    assert result[0] is output
    assert sum(given["z_output"] is not None for given in stubs.keywords) <= 1
    assert_same((output, z_output[: len(z)], *result[2:]), (out, z, *pools))


@relaxed
@given(launch=launches(), refused=st.sets(st.sampled_from(["decode", "spec", "prefill"]), min_size=1))
def test_rows_that_a_kernel_refuses_take_the_standard_path(stubs, launch, refused):
    """The other rows keep their kernel, and the bits are the same."""
    stubs.refusal = dict.fromkeys(refused, "not today")
    assert_same(dispatched(launch, stubs), expected(launch))
    assert not {name for name, _ in stubs.calls} & refused
    stubs.refusal = {}


@relaxed
@given(launch=launches())
def test_the_hosts_plan_is_the_tables_plan(launch):
    """`plan_rows` knows beforehand what `read_plan` reads back, and a launch with either is the same."""
    assert plan_rows(launch.rows) == read_plan(launch.tables)


@relaxed
@given(launch=launches())
def test_a_plan_that_claims_too_much_changes_nothing(stubs, launch):
    """A captured launch may be replayed without rows of a kind that it was captured for."""
    drafts = launch.tables.num_accepted_tokens is not None
    for fresh_spec in {False, drafts}:
        everything = LaunchPlan(decode=True, spec=drafts, prefill=True, fresh_spec=fresh_spec)
        assert_same(dispatched(launch, stubs, plan=everything), expected(launch))


ROWS = {
    "decode": Row(1, (4,)),
    "fresh": Row(1, (5,), fresh=True),
    "elsewhere": Row(1, (6,), read_slot=7),
    "in place": Row(1, (8,), read_slot=8),
    "prompt": Row(3, (9,)),
    "spec": Row(2, (1, 2), accepted=2),
    "fresh spec": Row(1, (10, 11), accepted=1, fresh=True),
    "empty": Row(0, (12,)),
    "padded": Row(1, (-1,)),
    "padded prompt": Row(2, (-1,)),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("decode", "decode"),
        ("in place", "decode"),
        ("padded", "decode"),
        ("fresh", "prefill"),
        ("elsewhere", "prefill"),
        ("prompt", "prefill"),
        ("spec", "spec"),
        ("fresh spec", "fresh_spec"),
        ("empty", None),
    ],
)
def test_the_kind_of_a_row(name, kind):
    """One row at a time, on the host and on the device."""
    masks = classify(build_tables([ROWS[name]]))
    plan = plan_rows([ROWS[name]])
    for each in ("decode", "spec", "prefill", "fresh_spec"):
        assert getattr(plan, each) == (each == kind)
        assert getattr(masks, each).tolist() == [each == kind]


def test_a_plan_for_capturing_lets_rows_be_empty():
    """With `pad_to` no plan promises that every row has a token, full launch or not."""
    rows = [Row(1, (0,)), Row(1, (1,))]
    assert plan_rows(rows).one_token_each
    assert not plan_rows(rows, pad_to=2).one_token_each


def tiny(rows: list[Row], *, device: str = "cpu", pad_tokens: int = 0) -> Launch:
    """A launch of these rows in a layer of one head, all numbers 1."""
    tables = build_tables(rows, device=device)
    tokens = sum(row.length for row in rows) + pad_tokens
    ones = {"device": device, "dtype": torch.float32}
    layer = fallback.Layer(1, 1, 2, 2, torch.ones(6, 4, **ones), *torch.ones(2, 1, **ones), None, torch.ones(2, **ones))
    conv_pool, pool = torch.ones(16, 6, 5, **ones), torch.ones(16, 1, 2, 2, **ones)
    qkvz, ba = torch.ones(tokens, 8, **ones), torch.ones(tokens, 2, **ones)
    return Launch(rows, layer, tables, qkvz, ba, conv_pool, pool, (conv_pool, pool))


@pytest.mark.parametrize(
    ("names", "routes"),
    [
        (["decode"], ["decode"]),
        (["decode", "empty", "padded", "in place"], ["decode"]),
        ([], ["decode"]),
        (["empty"], ["decode"]),
        (["spec"], ["spec"]),
        (["decode", "spec"], ["spec", "decode"]),
        (["prompt"], ["prefill"]),
        (["fresh", "empty", "padded prompt"], ["prefill"]),
        (["prompt", "decode"], ["prefill", "decode"]),
        (["spec", "prompt"], ["prefill", "spec"]),
        (["decode", "fresh", "spec", "elsewhere"], ["prefill", "spec", "decode"]),
        (["fresh spec"], ["standard"]),
        (["decode", "fresh spec", "prompt", "spec"], ["standard", "prefill", "spec", "decode"]),
    ],
)
def test_the_sub_launches_of_a_batch(stubs, names, routes):
    """One launch a kind, none for a kind that is not there; padded tokens are zeros."""
    launch = tiny([ROWS[name] for name in names], pad_tokens=2)
    assert_same(dispatched(launch, stubs), expected(launch))
    assert [name for name, _ in stubs.calls[: len(routes)]] == routes


def test_rows_of_one_token_each_need_no_offsets(stubs):
    """The decode kernel is spared query_start_loc exactly where the plan says that no row is empty."""
    for rows, pad_to, spared in (([ROWS["decode"]], None, True), ([ROWS["decode"]], 1, False)):
        dispatched(tiny(rows), stubs, plan=plan_rows(rows, pad_to=pad_to))
        assert (stubs.keywords[0]["query_start_loc"] is None) == spared


class Blind:
    """Kernels that compute nothing: for tensors that hold nothing."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def _kernel(self, name: str) -> Any:
        def run(qkvz: Tensor, ba: Tensor, layer: fallback.Layer, *args: Any, output: Any = None, **options: Any):
            self.ran.append(name)
            return qkvz.new_empty(len(qkvz), layer.num_v_heads, layer.head_v_dim) if output is None else output

        return run

    @property
    def kernels(self) -> fast.Kernels:
        named = ((self._kernel(name), lambda operands: None) for name in ("decode", "prefill", "spec"))
        return fast.Kernels(*(x for pair in named for x in pair))


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Blind:
    """Kernels for tensors of the device "meta", which raise whenever the host asks for a value."""
    made = Blind()
    monkeypatch.setattr(fast, "kernels_missing", lambda device_type, name: None)
    monkeypatch.setattr(fast, "kernels", lambda name: made.kernels)
    return made


PLANNED = [["decode", "decode"], ["decode", "empty"], ["spec"], ["decode", "spec", "empty"], []]
PLANNED += [["prompt", "fresh"], ["decode", "prompt", "spec", "elsewhere", "empty"]]


@pytest.mark.parametrize("names", PLANNED, ids=str)
@pytest.mark.parametrize("packing", ["flat", "interleaved"])
def test_a_planned_launch_never_waits_for_the_device(blind, names, packing):
    """No value of any tensor is asked for, so the launch can be captured."""
    rows = [ROWS[name] for name in names]
    launch = replace(tiny(rows, device="meta"), packing=packing)
    dispatched(launch, plan=plan_rows(rows))
    kinds = {"decode": "decode", "spec": "spec", "prompt": "prefill"}
    wanted = {kinds[name] for name in names if name in kinds} or {"decode"}
    assert blind.ran == [name for name in ("prefill", "spec", "decode") if name in wanted]


@pytest.mark.parametrize("options", [{"plan": None}, {"validate": True}], ids=str)
def test_without_a_plan_or_with_validation_it_does(blind, options):
    """The control of the test above: tensors that hold nothing do show that the host asks."""
    rows = [ROWS["decode"]]
    launch = tiny(rows, device="meta")
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        dispatched(launch, **{"plan": plan_rows(rows), **options})


def test_availability_is_probed_once(monkeypatch):
    """Launches ask again and again; the installation is looked at once a process and type of device."""
    looked: list[str] = []
    monkeypatch.setattr(fast, "find_spec", lambda name: looked.append(name))
    fast.kernels_missing.cache_clear()
    for _ in range(3):
        dispatched(tiny([ROWS["decode"]]))
    assert looked == ["triton"]
    assert fast.kernels_missing("cpu") == "triton is not installed"


@pytest.mark.parametrize("device", ["cpu", "meta", "xpu"])
def test_no_kernels_where_nothing_runs_them(device):
    """This process has no interpreter: the reason names what is in the way."""
    pytest.importorskip("triton")
    assert device in str(fast.kernels_missing(device))


def test_without_kernels_the_standard_path_runs_unchanged():
    """The bits are the fallback's, all rows in one launch."""
    launch = tiny([ROWS[name] for name in ("decode", "prompt", "spec")])
    assert_same(dispatched(launch), (*launch.run(), launch.conv_pool, launch.pool))


def test_a_forced_fallback_calls_no_kernel(stubs):
    """`kernel="fallback"` is the standard path, whatever the rows are."""
    dispatched(tiny([ROWS["decode"], ROWS["spec"]]), stubs, kernel="fallback")
    assert [name for name, _ in stubs.calls] == ["standard"]


@pytest.mark.parametrize("kernel", ["fused", "two-launch"])
def test_a_forced_kernel_that_cannot_run_here_is_an_error(kernel):
    """The reason, and the way out."""
    with pytest.raises(ValueError, match=rf"kernel='{kernel}' cannot serve this launch: .*; pass kernel='auto'"):
        dispatched(tiny([ROWS["decode"]]), kernel=kernel)


def test_a_forced_kernel_that_refuses_is_an_error_before_anything_is_written(stubs):
    """Also where other rows of the launch could be served."""
    launch = tiny([ROWS["prompt"], ROWS["decode"], ROWS["spec"]])
    for kind in ("spec", "prefill", "decode"):
        stubs.refusal = {kind: "none of these on a Sunday"}
        with pytest.raises(ValueError, match="none of these on a Sunday"):
            dispatched(launch, stubs, kernel="fused")
        assert not stubs.calls


def test_an_unknown_kernel_is_refused():
    """The message has the value and the known ones."""
    with pytest.raises(
        ValueError, match="kernel='fast' is not one of 'auto', 'fused', 'two-launch', 'cuda', 'fallback'"
    ):
        dispatched(tiny([]), kernel="fast")


def test_stages_and_gradients_take_the_standard_path(stubs):
    """Only it has them; a forced kernel says so."""
    launch = tiny([ROWS["decode"]])
    shown: dict[str, Tensor] = {}
    dispatched(launch, stubs, stages=shown)
    assert {"conv", "o"} <= set(shown)
    launch.qkvz.requires_grad_()
    out = dispatched(launch, stubs)[0]
    assert out.requires_grad
    assert [name for name, _ in stubs.calls] == ["standard"]
    with pytest.raises(ValueError, match="gradient"):
        dispatched(launch, kernel="fused")


def test_validation_finds_what_the_fallback_finds(stubs):
    """Two rows that write one slot, in rows that fast kernels serve; nothing is launched."""
    launch = tiny([Row(1, (3,)), Row(1, (3,))])
    with pytest.raises(ValueError, match="rows 0 and 1 both write slot 3"):
        dispatched(launch, stubs, validate=True)
    assert not stubs.calls
