"""`conv_update` and `delta_update` in the interpreter: each the fallback's stage, and no other bit touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gdn_verify.kernels import fallback
from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.stages import gates, qk_norm, split_qkv, unpack

from ..checking import assert_rounded, wide
from .accounts import SIZE, assert_conv_and_inputs, assert_only, assert_output, assert_states, assert_z
from .families import DECODE, PLAIN, SPLIT, STAGED, conv_launch, delta_launch, mixed_buffer
from .problems import Buffer, Buffers, Problem, mixed_up
from .situations import DECODE_ROWS, LAYERS

pytest.importorskip("triton")


def check_both(problem: Problem, family: str) -> None:
    """In the interpreter's process: one launch after the other, each accounted for."""
    left = problem.buffers()
    before, mixed_qkv = left.copy(), mixed_buffer(problem, left)
    empty = mixed_qkv.copy()
    conv_launch(problem, left, mixed_qkv)
    assert_convolved(problem, before, left, empty, mixed_qkv)
    between = left.copy()
    delta_launch(problem, left, mixed_qkv, family)
    assert_advanced(problem, between, left, mixed_qkv)


def assert_convolved(problem: Problem, before: Buffers, after: Buffers, empty: Buffer, mixed_qkv: Buffer) -> None:
    """The conv's output of live tokens, rounded to its type; the conv pool; z of every token."""
    stages: dict[str, torch.Tensor] = {}
    expected, pool = before.copy(), before.pool.view.to(torch.float32, copy=True)
    fallback.gated_delta_net_packed(
        before.qkvz.view.float(), before.ba.view.float(), before.layer, expected.conv_pool.view, pool,
        problem.tables_of(problem.seen), packing=problem.packing, state_order=problem.state_order,
        pad_slot_id=problem.pad_slot_id, stages=stages,
    )  # fmt: skip
    live = problem.live_tokens
    assert_rounded(mixed_qkv.view[live], wide(stages["conv"][live]), "mixed_qkv", floor=SIZE)
    assert_only(empty, mixed_qkv, live, "mixed_qkv")
    assert_conv_and_inputs(before, after, expected)
    assert_only(before.pool, after.pool, [], "pool")
    assert_z(problem, before, after)


def assert_advanced(problem: Problem, before: Buffers, after: Buffers, mixed_qkv: Buffer) -> None:
    """o and states from the conv's output as it was rounded; the conv pool is nothing to this launch."""
    layer, pool, tables = before.layer, before.pool.view.to(torch.float32, copy=True), problem.tables_of(problem.seen)
    _, _, b, a = unpack(before.qkvz.view, before.ba.view, *layer.geometry, problem.packing)
    q, k, v = split_qkv(mixed_qkv.view, *layer.geometry)
    o = delta_rule(
        *qk_norm(q, k, layer.scale), v.float(), *gates(a, b, layer.A_log, layer.dt_bias, layer.beta_scale), pool,
        tables.state_indices, tables.query_start_loc, state_order=problem.state_order,
        pad_slot_id=problem.pad_slot_id,
    )  # fmt: skip
    assert_conv_and_inputs(before, after, before)
    assert_states(problem, before, after, pool)
    assert_output(problem, before, after, o)


@pytest.mark.parametrize("family", DECODE)
def test_every_configuration_agrees(interpreted, family):
    """The delta kernel is the decode kernel without its conv and its norm: nothing is shared, nobody waits."""
    interpreted(check_both, Problem(K=40, V=24, packing="interleaved", state_order="KV"), family)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_and_layout(interpreted, name):
    """Ratios, sizes, types, strides and options, each alone."""
    interpreted(check_both, replace(Problem(), **LAYERS[name]), SPLIT)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", DECODE_ROWS)
def test_every_padding(interpreted, name, keep):
    """Rows and tokens that are none: zeros, or with zero_pads=False the bytes that were there."""
    interpreted(check_both, replace(DECODE_ROWS[name], zero_pads=not keep), STAGED)


def test_more_channels_than_a_block(interpreted):
    """The conv's programs own 256 channels each; q, k and v meet within one."""
    wide_heads = Problem(H=2, ratio=3, K=50, V=90, packing="interleaved")
    interpreted(check_both, wide_heads, PLAIN)
    interpreted(check_both, replace(wide_heads, packing="flat"), PLAIN)


def check_mixed_up(seeds: range) -> None:
    """In the interpreter's process: a row pattern and a configuration a seed."""
    for seed in seeds:
        problem = mixed_up(list(DECODE_ROWS.values())[seed % len(DECODE_ROWS)], seed)
        family = list(DECODE)[seed % len(DECODE)]
        try:
            check_both(problem, family)
        except AssertionError as error:
            raise AssertionError(f"{family!r}, {problem}") from error


def test_options_do_not_interfere(interpreted):
    """All of them turned at random at once."""
    interpreted(check_mixed_up, range(15))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(15, 215, 50))
def test_options_do_not_interfere_at_length(interpreted, first):
    """The same, 200 times."""
    interpreted(check_mixed_up, range(first, first + 50))
