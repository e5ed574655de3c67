"""The stage functions alone: edges of their equations, what they refuse, and gradients."""

from __future__ import annotations

import pytest
import torch

from gdn_verify.kernels.conv import causal_conv
from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.fallback import Layer, gated_delta_net
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.stages import gated_norm, gates, qk_norm, unpack

from .launches import same_bits
from .test_laws import operands


@pytest.mark.parametrize("packing", ["flat", "interleaved"])
def test_unpacking_moves_bits(packing):
    """Signed zeros, NaN payloads and row strides survive; ratio 3, K ≠ V."""
    H, HV, K, V, T = 2, 6, 3, 2, 4
    codes = torch.arange(T * 200, dtype=torch.int16).view(T, 200) + 0x7F70
    qkvz, ba = codes.view(torch.bfloat16)[:, : 2 * H * K + 2 * HV * V], codes.view(torch.bfloat16)[:, 100:112]
    mixed_qkv, z, b, a = unpack(qkvz, ba, H, HV, K, V, packing)
    parts = torch.cat([mixed_qkv, z.flatten(1)], 1).view(torch.int16)
    assert torch.equal(parts.sort().values, qkvz.view(torch.int16).sort().values)
    if packing == "flat":
        assert torch.equal(parts, qkvz.view(torch.int16))
        assert same_bits(torch.cat([b, a], 1), ba)
    else:
        group = qkvz.unflatten(1, (H, -1))
        assert same_bits(z.unflatten(1, (H, 3)), group[:, :, 2 * K + 3 * V :].unflatten(2, (3, V)))
        assert same_bits(torch.cat([b[:, 3:], a[:, 3:]], 1), ba[:, 6:])


def test_softplus_is_linear_above_its_threshold():
    """g for large a + dt_bias is -exp(A_log) (a + dt_bias), and β may be scaled."""
    a, b, zero = torch.tensor([[25.0, 80.0]]), torch.zeros(1, 2), torch.zeros(2)
    g, beta = gates(a, b, zero, zero, beta_scale=2.0)
    assert g.tolist() == [[-25.0, -80.0]]
    assert beta.tolist() == [[1.0, 1.0]]


def test_a_scale_is_used_as_given():
    """Zero is a scale, not a request for the default; the eps is added to the sum."""
    q = torch.full((1, 1, 4), 3.0)
    assert qk_norm(q, q, scale=0.0)[0].abs().max() == 0
    assert qk_norm(q, q, scale=1.0)[0].tolist() == qk_norm(q, q)[1].tolist()
    tiny = torch.full((1, 1, 4), 1e-3)
    torch.testing.assert_close(qk_norm(tiny, tiny)[1], tiny / (4e-6 + 1e-6) ** 0.5)


def test_norm_rounds_once_to_the_dtype_of_o():
    """Computed in float32 from a narrow o, returned narrow."""
    o, z = torch.randn(5, 2, 8).bfloat16(), torch.randn(5, 2, 8).bfloat16()
    weight = torch.randn(8).bfloat16()
    wide = gated_norm(o.float(), z, weight, 1e-6, "sigmoid")
    assert same_bits(gated_norm(o, z, weight, 1e-6, "sigmoid"), wide.bfloat16())


def launch(**changes):
    (q, k, v, g, beta), pool, tables = operands(4)
    return delta_rule(**{"q": q, "k": k, "v": v, "g": g, "beta": beta, "pool": pool, **tables, **changes})


TWO = torch.tensor([0, 2, 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": torch.zeros(4, 4, 5), "k": torch.zeros(4, 4, 5)}, "not a multiple of the H=4"),
        ({"g": torch.zeros(3, 6)}, "g has shape"),
        ({"pool": torch.zeros(3, 6, 5, 3)}, "pool has shape"),
        ({"pool": torch.zeros(3, 6, 3, 5).double()}, "pool has dtype"),
        ({"state_order": "vk"}, "state_order='vk'"),
        ({"output": torch.zeros(4, 6, 2)}, "output has shape"),
        ({"query_start_loc": torch.tensor([0, 5])}, "must rise from 0 to at most the 4 tokens"),
        ({"query_start_loc": torch.tensor([1, 4])}, "must rise from 0"),
        ({"query_start_loc": TWO, "state_indices": torch.tensor([1, 1])}, "rows 0 and 1 both write slot 1"),
        ({"num_accepted_tokens": torch.tensor([0])}, r"num_accepted_tokens\[0\]=0 is outside \[1, 1\]"),
        ({"num_accepted_tokens": torch.tensor([2])}, r"num_accepted_tokens\[0\]=2 is outside \[1, 1\]"),
        ({"num_accepted_tokens": torch.tensor([1])}, "row 0 has 4 tokens but state_indices has 1 columns"),
        ({"spec_rows": torch.tensor([True])}, "without num_accepted_tokens"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    """The error names the argument, its value and the way out; the pool is untouched."""
    pool = changes.get("pool", operands(4)[1])
    before = pool.clone()
    with pytest.raises(ValueError, match=message):
        launch(**{"pool": pool, **changes})
    assert same_bits(pool, before)


@pytest.mark.parametrize("accepted", [-3, 0, 3, 100])
def test_an_illegal_count_without_validation_pads_the_row(accepted):
    """Zeros out, no state read or written."""
    table, pool = torch.tensor([[1, 2]]), operands(4)[1]
    before = pool.clone()
    changes = {"state_indices": table, "query_start_loc": torch.tensor([0, 2])}
    o = launch(**changes, pool=pool, num_accepted_tokens=torch.tensor([accepted]), validate=False)
    assert o.count_nonzero() == 0
    assert same_bits(pool, before)


def test_counts_of_padded_rows_are_not_looked_at():
    """A captured launch may leave anything in the accepted counts of rows it does not use."""
    table = torch.tensor([[-1, -1], [1, 2], [0, -1]])
    counts, starts = torch.tensor([0, 2, 77]), torch.tensor([0, 2, 4, 4])
    o = launch(state_indices=table, query_start_loc=starts, num_accepted_tokens=counts)
    assert o[:2].count_nonzero() == 0
    assert o[2:].count_nonzero() > 0


def test_a_dropped_column_0_is_no_padding_to_the_recurrence_alone():
    """Delta looks at the read column; the whole layer and the conv, which keep a state in column 0, pad the row."""
    table, starts, counts = torch.tensor([[-1, 2]]), torch.tensor([0, 2]), torch.tensor([2])
    assert launch(state_indices=table, query_start_loc=starts, num_accepted_tokens=counts)[:2].count_nonzero() > 0
    x, conv_pool = torch.randn(2, 3), torch.randn(3, 3, 4)
    y = causal_conv(x, torch.randn(3, 4), None, conv_pool, table, starts, None, counts)
    assert y.count_nonzero() == 0


def test_gradients_reach_the_inputs_and_a_callers_buffer_is_refused():
    """Against finite differences of the sum of outputs; `output` raises before a pool is touched."""
    (q, k, v, g, beta), pool, tables = operands(3)
    before, inputs = pool.clone(), [x.requires_grad_() for x in (q, k, v, g, beta)]
    with pytest.raises(RuntimeError, match=r"output.*torch\.no_grad"):
        delta_rule(*inputs, pool, **tables, output=torch.zeros_like(v))
    assert same_bits(pool, before)
    delta_rule(*inputs, pool.clone(), **tables).sum().backward()
    with torch.no_grad():
        assert delta_rule(*inputs, pool.clone(), **tables, output=torch.zeros_like(v)).count_nonzero() > 0
        for x in inputs:
            direction = torch.randn_like(x)
            ends = []
            for step in (1e-2, -1e-2):
                moved = [y + step * direction if y is x else y for y in inputs]
                ends.append(delta_rule(*moved, pool.clone(), **tables).double().sum())
            slope = float(ends[0] - ends[1]) / 2e-2
            assert slope == pytest.approx(float((x.grad * direction).sum()), rel=2e-2, abs=2e-2)


def test_a_layer_of_wrong_shapes_is_refused():
    """On construction; and a launch whose pools do not belong together before it writes."""
    weight, per_head = torch.zeros(2 * 2 * 5 + 6 * 3, 4), torch.zeros(6)
    with pytest.raises(ValueError, match="conv_weight has shape"):
        Layer(2, 6, 5, 4, weight, per_head, per_head)
    with pytest.raises(ValueError, match="num_v_heads=5"):
        Layer(2, 5, 5, 3, weight, per_head, per_head)
    with pytest.raises(ValueError, match="norm_activation='relu'"):
        Layer(2, 6, 5, 3, weight, per_head, per_head, norm_activation="relu")
    layer = Layer(2, 6, 5, 3, weight, per_head, per_head)
    x, ba = torch.zeros(1, 38), torch.zeros(1, 6)
    tables = Tables(torch.tensor([0, 1]), torch.tensor([0]))
    with pytest.raises(ValueError, match="they share ids"):
        gated_delta_net(x, None, ba, ba, layer, torch.zeros(2, 38, 3), torch.zeros(3, 6, 3, 5), tables)
    with pytest.raises(ValueError, match="norm_weight belong together"):
        gated_delta_net(
            x, x[:, :18].view(1, 6, 3), ba, ba, layer, torch.zeros(3, 38, 3), torch.zeros(3, 6, 3, 5), tables
        )
