"""Paths of the prefill kernels: they declare the chunks that they launch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry, Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.reach import reach
from gdn_verify.cases.strategies import cases, draw_cases
from gdn_verify.cases.values import Fill, Gates, Values, Vectors
from gdn_verify.feed import feed, initial_pools
from gdn_verify.kernels.fallback import Layer
from gdn_verify.oracles.compose import Algorithm
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.sites import Site
from gdn_verify.paths import find
from gdn_verify.service import Job
from gdn_verify.suspect import Answer, Suspect

pytest.importorskip("triton")

from gdn_verify.kernels.triton.shape import Shape, choose_shape, moves_in_words, padded, refuse_wrong
from gdn_verify.kernels.triton.target import Target


def rounding(name: str, host: str = "interpreter", activation: DType = DType.BF16, K: int = 128) -> Rounding:
    case = Case(Geometry(2, 4, K, 64), DTypes(activation=activation), 1, (Batch((Row(70, (0,)),)),))
    return find(name).rounding(case, Presentation(), host)


def chosen(host: str, K: int, exact: bool) -> int:
    """Tokens of a chunk on the chip that stands for a host."""
    from gdn_verify.kernels.triton.shape import choose_shape
    from gdn_verify.kernels.triton.target import Target
    from gdn_verify.paths.chunk import CHIPS

    return choose_shape(Target(*CHIPS[host]), K, exact, V=64).chunk


@pytest.mark.parametrize("K", [128, 256])
@pytest.mark.parametrize("activation", [DType.F32, DType.F16])
@pytest.mark.parametrize("host", ["interpreter", "cuda", "rocm"])
def test_the_chunk_is_the_kernels_choice(host: str, activation: DType, K: int) -> None:
    """Float32 operands are cut otherwise, and so are wide keys."""
    declared = rounding("chunk-delta", host, activation, K)
    assert declared.algorithm is Algorithm.FOLDED
    assert declared.chunk == chosen(host, K, activation is DType.F32)
    assert rounding("chunk-delta-exact", host, activation, K).chunk == chosen(host, K, True)


@pytest.mark.parametrize(
    ("K", "shown", "chunk"),
    [
        (64, Presentation(), 64),
        (64, Presentation(row_pad=16), 64),
        (64, Presentation(row_pad=3), 32),
        (64, Presentation(misalign=1), 32),
        (60, Presentation(), 32),
    ],
)
def test_the_chunk_depends_on_how_keys_are_fed(K: int, shown: Presentation, chunk: int) -> None:
    """Rows that are not aligned are cut shorter on Hopper: judged by longer chunks, a right launch was accused."""
    case = Case(Geometry(4, 12, K, 40), DTypes(activation=DType.BF16), 1, (Batch((Row(33, (0,)),)),))
    assert find("chunk-delta").rounding(case, shown, "cuda").chunk == chunk


def unlaunched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convs of a prefill that compute nothing."""

    def convolved(x: Tensor, layer: Layer, *_: object, **__: object) -> Tensor:
        return x.new_empty(x.shape[0], layer.channels)

    def prepared(x: Tensor, ba: Tensor, layer: Layer, *_: object, **__: object) -> tuple[Tensor, Tensor, Tensor]:
        return convolved(x, layer), *x.new_empty(2, x.shape[0], layer.num_v_heads, dtype=torch.float32).unbind()

    monkeypatch.setattr("gdn_verify.kernels.triton.conv_prefill.conv_prefill", convolved)
    for module in ("conv_prefill", "prefill"):
        monkeypatch.setattr(f"gdn_verify.kernels.triton.{module}.prepare_prefill", prepared)


@pytest.mark.parametrize("forced", ["", ":chunk=16"])
@pytest.mark.parametrize("name", ["chunk-delta", "conv-chunk-delta", "chunk-delta-checkpoints"])
def test_the_declared_chunk_is_the_launched_one(name: str, forced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what Hopper's kernels would find in the tensors of any case; and where a configuration says it.

    A sweep on a card accused 28 configurations that were never launched.
    """
    launched: list[int] = []

    def note(q: Tensor, k: Tensor, v: Tensor, *_: Any, exact: bool = False, shape: Shape | None, **__: Any) -> Tensor:
        exact = exact or q.dtype == torch.float32
        sizes = padded(q.shape[2]), exact, moves_in_words(q, k), v.shape[2]
        chosen = shape or choose_shape(Target("cuda", "90"), *sizes)
        launched.append(chosen.chunk)
        return v

    monkeypatch.setattr("gdn_verify.kernels.triton.chunk.chunk_delta", note)
    unlaunched(monkeypatch)
    path = find(name + forced)
    monkeypatch.setattr(path, "_chip", Target("cuda", "90"))
    seen = set()
    for case, shown in draw_cases(cases(path.capabilities, path.conventions, Kind.PREFILL), 60, seed=5):
        if case.batches[0].tokens == 1:
            continue  # chunks of all lengths are the same
        path.run(feed(case, 0, path, shown, initial_pools(case, path, shown), "cpu").launch)
        assert {path.rounding(case, shown, "cuda").chunk} == set(launched)
        seen.update(launched)
        launched.clear()
    assert seen == {16} if forced else {32, 64} <= seen


@pytest.mark.parametrize("chunk", [16, 32, 64])
def test_the_chunk_is_that_of_the_name(chunk: int) -> None:
    """A sweep judges each configuration by its own oracle."""
    assert rounding(f"chunk-delta:chunk={chunk}").chunk == chunk


FAMILY = ["chunk-delta", "chunk-delta-exact", "conv-chunk-delta", "prefill-null", "chunk-delta-checkpoints"]


@pytest.mark.parametrize("name", FAMILY)
def test_no_configuration_is_called_a_path_that_accepts_too_little(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a Hopper card refuses of a configuration is its own: a sweep was red for what it declares."""
    hopper = Target("cuda", "90")
    path = find(name)
    monkeypatch.setattr(path, "_chip", hopper)
    for settings in path.configurations():
        each = path.configured(settings)
        monkeypatch.setattr(each, "_chip", hopper)
        assert reach(each.capabilities, each.conventions, each.refuses) >= each.least_reach, settings


@pytest.mark.parametrize("forced", ["", ":chunk=64", ":chunk=64/ahead=1", ":chunk=64/scan_warps=4/ahead=2"])
@pytest.mark.parametrize("name", ["chunk-delta", "conv-chunk-delta", "prefill-null"])
def test_what_is_launched_is_not_refused(name: str, forced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path refuses shapes that are wrong on Hopper; a launch of one token was accused, whose views lie otherwise."""
    hopper = Target("cuda", "90")
    launched: list[int] = []

    def check(q: Tensor, k: Tensor, v: Tensor, *_: Any, exact: bool = False, shape: Shape | None, **__: Any) -> Tensor:
        launched.append(len(q))
        if shape is not None:
            refuse_wrong(shape, hopper, moves_in_words(q, k), v.shape[2], exact or q.dtype == torch.float32)
        return v

    monkeypatch.setattr("gdn_verify.kernels.triton.chunk.chunk_delta", check)
    monkeypatch.setattr("gdn_verify.kernels.triton.prefill.chunk_delta", check)
    unlaunched(monkeypatch)
    path = find(name + forced)
    monkeypatch.setattr(path, "_chip", hopper)
    for case, shown in draw_cases(cases(path.capabilities, path.conventions, Kind.PREFILL), 100, seed=6):
        if path.refuses(case, shown) is None:
            for number in range(len(case.batches)):
                path.run(feed(case, number, path, shown, initial_pools(case, path, shown), "cpu").launch)
    assert 1 in launched or name == "chunk-delta" or "warps" in forced


@pytest.mark.parametrize("V", [16, 32, 33, 64, 256])
@pytest.mark.parametrize("KP", [64, 128, 256])
def test_no_shape_that_is_chosen_is_wrong(KP: int, V: int) -> None:
    """On Hopper, whatever the operands."""
    hopper = Target("cuda", "90")
    for exact in (True, False):
        for in_words in (True, False):
            refuse_wrong(choose_shape(hopper, KP, exact, in_words, V), hopper, in_words, V, exact)


def test_few_rows_of_wide_heads_are_wrong_without_loads_ahead() -> None:
    """Of 16-bit operands: NaN, and reads beyond shared memory, on an H200 with Triton 3.6."""
    tall = Shape(64, 8, 8, 1)
    with pytest.raises(ValueError, match="none of them loaded ahead"):
        refuse_wrong(tall, Target("cuda", "90"), True, 128, False)
    refuse_wrong(replace(tall, block_v=64), Target("cuda", "90"), True, 128, False)
    refuse_wrong(tall, Target("cuda", "90"), True, 128, True)
    refuse_wrong(tall, Target("cuda", "80"), True, 128, False)


def test_segments_are_declared_where_a_name_asks_for_them() -> None:
    """A row of 70 tokens in chunks of 16: three segments are of two chunks each; whole rows have no join."""
    declared = rounding("chunk-delta-exact:segments=3")
    assert declared.segment == 32
    assert Site.JOIN_DOT in {site for site, _, _ in declared.sites}
    for whole in (rounding("chunk-delta"), rounding("chunk-delta-exact:segments=1")):
        assert whole.segment == 0
        assert Site.JOIN_DOT not in {site for site, _, _ in whole.sites}


def test_an_unknown_field_does_not_load() -> None:
    """The worker says so before any case."""
    with pytest.raises(TypeError, match="no_such_field"):
        find("chunk-delta:no_such_field=1").load("interpreter")


def test_what_is_exact_has_no_narrow_operand() -> None:
    """And what is not has float16 in front of the state, the activations' type behind it."""
    exact = {site: dtype for site, dtype, _ in rounding("chunk-delta-exact").sites}
    assert {dtype for site, dtype in exact.items() if site is not Site.OUT} == {DType.F32}
    narrow = {site: dtype for site, dtype, _ in rounding("chunk-delta").sites}
    folded = {Site.OPERAND_K, Site.INVERSE_OPERAND, Site.FOLDED_X, Site.FOLDED_TAIL, Site.QK}
    assert {site for site, dtype in narrow.items() if dtype is DType.F16} == folded
    assert narrow[Site.FRESH] is DType.BF16


@pytest.mark.parametrize("name", ["chunk-delta", "chunk-delta-exact"])
def test_products_of_q_and_k_are_of_them_as_they_come(name: str) -> None:
    """What scales k kᵀ and q kᵀ, the norms among it, is float32: no element of q̂ or k̂ rounds in front of them."""
    declared = {site: dtype for site, dtype, _ in rounding(name, "cuda").sites}
    assert Site.QK_NORM not in declared
    assert {declared[site] for site in (Site.QK_SUM, Site.LENGTH, Site.KK_DOT, Site.KK, Site.QK_DOT)} == {DType.F32}


def test_a_card_cuts_the_sums_that_the_interpreter_rounds() -> None:
    """Tensor cores, which sum the norms too; a thread's own sums are rounded everywhere."""
    sums = {host: {s: f for s, _, f in rounding("chunk-delta", host).sites} for host in ("cuda", "interpreter")}
    for site in (Site.KK_DOT, Site.QK_SUM):
        assert sums["cuda"][site] == 2 * sums["interpreter"][site]
        assert rounding("chunk-delta", activation=DType.F32).levels[site][0] > 2.0**-24


@pytest.mark.parametrize("name", FAMILY)
def test_a_configuration_answers_for_the_kernels_that_it_launches(name: str) -> None:
    """The two that join segments where it has some, whatever the path's own choice is."""
    path = find(name)
    for segments, joins in ((1, False), (3, True)):
        assert ("gdn_join_kernel" in path.configured({"chunk": 16, "segments": segments}).kernels) is joins
    assert "gdn_join_kernel" not in path.configured({"chunk": 64}).kernels
    on_hopper = path.configured({"groups": 1, "segments": 3}).kernels
    assert {"gdn_hopper_scan_kernel", "gdn_span_kernel"} <= set(on_hopper)


@pytest.mark.parametrize("activation", [pytest.param(DType.F32, marks=pytest.mark.slow), DType.BF16])
def test_fewer_live_rows_in_a_captured_prefill_are_no_accusation(activation: DType) -> None:
    """The adapter copies a narrow output by the tables as they are, not by the rows that the capture had."""
    case = Case(
        Geometry(1, 1, 8, 8), DTypes(activation=activation), 3, (Batch((Row(3, (0,)), Row(5, (2,)))),),
        Values(3, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.NORMAL),
    )  # fmt: skip
    with Suspect(Job("prefill-null", "interpreter", Kind.PREFILL, replays=1)) as suspect:
        assert suspect.ask((case, Presentation(first_slot=1, sentinel=0))) == Answer()
