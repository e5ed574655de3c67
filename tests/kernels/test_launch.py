"""A whole launch of the fallback against the contract's equations: every kind, every padding, every layout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdn_verify.kernels.fallback import gated_delta_net, gated_delta_net_packed
from gdn_verify.kernels.stages import unpack

from .checking import check_launch
from .launches import KINDS, launches, same_bits

relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", KINDS)
@relaxed
@given(data=st.data())
def test_a_launch_of_one_kind_does_what_the_contract_says(kind, data):
    """Outputs, states, untouched bytes and paddings of a launch of one kind of rows, NaN wherever allowed."""
    check_launch(data.draw(launches((kind,))))


@relaxed
@given(launches())
def test_a_mixed_launch_does_what_the_contract_says(launch):
    """Rows of all kinds in one launch, in any order."""
    check_launch(launch)


@settings(relaxed, max_examples=20)
@given(launches())
def test_the_callers_buffers_are_filled_with_the_same_bits(launch):
    """`output` and `z_output` of any strides, NaN before, end up equal to what is returned without them."""
    conv_pool, pool = launch.conv_pool.clone(), launch.pool.clone()
    expected, z = launch.run()
    output, z_output = (torch.full((*x.shape, 2), float("nan"), dtype=x.dtype)[..., 0] for x in (expected, z))
    result = gated_delta_net_packed(
        launch.qkvz,
        launch.ba,
        launch.layer,
        conv_pool,
        pool,
        launch.tables,
        packing=launch.packing,
        state_order=launch.state_order,
        pad_slot_id=launch.pad_slot_id,
        output=output,
        z_output=z_output,
    )
    assert result[0] is output
    assert result[1] is z_output
    assert same_bits(output, expected)
    assert same_bits(z_output, z)


@settings(relaxed, max_examples=20)
@given(launches())
def test_repetition_and_validation_do_not_change_a_bit(launch):
    """The same launch again, unpacked beforehand and without validation, leaves the same bytes everywhere."""
    conv_pool, pool = launch.conv_pool.clone(), launch.pool.clone()
    expected, _ = launch.run()
    mixed_qkv, z, b, a = unpack(launch.qkvz, launch.ba, *launch.layer.geometry, launch.packing)
    options = {"state_order": launch.state_order, "pad_slot_id": launch.pad_slot_id}
    out = gated_delta_net(mixed_qkv, z, b, a, launch.layer, conv_pool, pool, launch.tables, validate=False, **options)
    assert same_bits(out, expected)
    assert same_bits(conv_pool, launch.conv_pool)
    assert same_bits(pool, launch.pool)


@settings(relaxed, max_examples=20)
@given(launches())
def test_no_tensor_is_made_on_the_default_device(launch):
    """A launch stays on the device of its inputs: with another default device it runs and agrees in every bit."""
    conv_pool, pool = launch.conv_pool.clone(), launch.pool.clone()
    expected, _ = launch.run()
    launch.conv_pool, launch.pool = conv_pool, pool
    with torch.device("meta"):
        out, _ = launch.run()
    assert same_bits(out, expected)
