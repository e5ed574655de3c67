"""Laws of launches that need no reference: how results of different launches are bound to each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gdn_verify.kernels.conv import causal_conv
from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.fallback import Layer, gated_delta_net_packed
from gdn_verify.kernels.tables import Row, build_tables, commit

from .launches import same_bits

H, HV, K, V, W, NUM_SPEC = 2, 6, 5, 3, 4, 3
D = 2 * H * K + HV * V


class Model:
    """One layer, its pools of 16 slots, and one sequence of tokens."""

    def __init__(self, tokens: int = 16, seed: int = 0) -> None:
        make = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=make)

        self.layer = Layer(H, HV, K, V, normal(D, W), normal(HV), normal(HV), norm_weight=normal(V))
        self.qkvz, self.ba = normal(tokens, D + HV * V), normal(tokens, 2 * HV)
        self.conv_pool, self.pool = normal(16, D, W - 1 + NUM_SPEC), normal(16, HV, V, K)

    def launch(self, rows: list[Row], tokens: list[int], **kwargs) -> torch.Tensor:
        """The outputs of one launch over these tokens of the sequence."""
        tables = build_tables(rows, **kwargs)
        qkvz, ba = self.qkvz[tokens], self.ba[tokens]
        return gated_delta_net_packed(qkvz, ba, self.layer, self.conv_pool, self.pool, tables)[0]

    def state(self, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What a plain launch reads of a slot."""
        return self.conv_pool[slot, :, : W - 1], self.pool[slot]


def assert_close(left, right) -> None:
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def test_decode_equals_prefill_of_one_token_equals_spec_with_one_accepted():
    """The three ways to advance a row by one token leave the same bits."""
    results = []
    for row in (Row(1, (3,)), Row(1, (3,), read_slot=3), Row(1, (3, 4, 5, 6), accepted=1)):
        model = Model()
        results.append((model.launch([row], [0]), model.conv_pool, model.pool))
    for other in results[1:]:
        assert all(same_bits(x, y) for x, y in zip(results[0], other, strict=True))


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("cut", range(1, 8))
def test_a_prefill_can_be_split_anywhere(cut, fresh):
    """[0, t) and then [t, L) equals [0, L), in outputs and states."""
    whole, parts = Model(), Model()
    expected = whole.launch([Row(8, (2,), fresh=fresh)], list(range(8)))
    first = parts.launch([Row(cut, (2,), fresh=fresh)], list(range(cut)))
    second = [parts.launch([Row(8 - cut, (2,))], list(range(cut, 8)))] if cut < 8 else []
    assert_close(torch.cat([first, *second]), expected)
    assert_close(parts.state(2), whole.state(2))


@given(st.lists(st.integers(1, NUM_SPEC + 1).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), max_size=5))
@settings(deadline=None, max_examples=40)
def test_a_chain_of_spec_launches_then_commit_equals_plain_decodes(steps):
    """Rejected drafts leave no trace: accepted outputs and the committed state are those of decoding."""
    spec, plain = Model(tokens=40), Model(tokens=40)
    at, accepted, slots = 0, 1, (9, 4, 11, 7)
    for length, accept in steps:
        drafts = [*range(at, at + accept), *range(30, 30 + length - accept)]
        out = spec.launch([Row(length, slots, accepted=accepted)], drafts)[:accept]
        expected = torch.cat([plain.launch([Row(1, (9,))], [at + i]) for i in range(accept)])
        assert_close(out, expected)
        at, accepted = at + accept, accept
    commit(spec.pool, spec.conv_pool, torch.tensor([slots]), torch.tensor([accepted]))
    assert_close(spec.state(9), plain.state(9))
    assert torch.equal(spec.state(9)[0], plain.state(9)[0])


def test_commit_copies_bits_and_leaves_padded_rows_alone():
    """Column a-1 goes to column 0 and [a-1, a+W-2) to [0, W-1); a row with a sentinel in either keeps its bytes."""
    model = Model()
    pool, conv_pool = model.pool.clone(), model.conv_pool.clone()
    table = torch.tensor([[1, 2, 3, 4], [5, 6, -1, 7], [-1, 8, 9, 10], [-1, -1, -1, -1]])
    commit(model.pool, model.conv_pool, table, torch.tensor([4, 3, 2, 0]))
    pool[1] = pool[4].clone()
    conv_pool[1, :, : W - 1] = conv_pool[1, :, 3 : W + 2].clone()
    assert same_bits(model.pool, pool)
    assert same_bits(model.conv_pool, conv_pool)


def test_a_row_gives_the_same_result_alone_and_in_any_batch():
    """Neither the other rows, nor their order, nor padding matter to a row."""
    alone, batch = Model(), Model()
    row, spec = Row(5, (2,)), Row(3, (8, 9, 10, 11), accepted=2)
    expected, drafted = alone.launch([row], [0, 1, 2, 3, 4]), alone.launch([spec], [9, 5, 6])
    rows = [Row(2, (-1,)), spec, Row(0, (7,)), Row(9, (3,), fresh=True), row]
    tokens = [7, 7, 9, 5, 6, *range(9), *range(5), 8]
    out = batch.launch(rows, tokens, pad_to=8)
    assert_close(out[2:5], drafted)
    assert_close(out[14:19], expected)
    for slot in (2, 8, 9, 10):
        assert_close(batch.state(slot), alone.state(slot))


@pytest.mark.parametrize("edited", range(7))
def test_an_edited_token_leaves_earlier_outputs_bit_identical(edited):
    """Causality."""
    before, after = Model(), Model()
    after.qkvz[edited] += 1
    after.ba[edited] -= 1
    rows, tokens = [Row(7, (0,))], list(range(7))
    left, right = before.launch(rows, tokens), after.launch(rows, tokens)
    assert same_bits(left[:edited], right[:edited])
    assert not torch.equal(left[edited:], right[edited:])


def operands(tokens: int = 6) -> tuple[list[torch.Tensor], torch.Tensor, dict[str, torch.Tensor]]:
    """q, k, v, g, beta of one row in slot 1, a pool, and its tables."""
    make = torch.Generator().manual_seed(1)
    q, k = (torch.nn.functional.normalize(torch.randn(tokens, H, K, generator=make), dim=-1) for _ in range(2))
    v, pool = torch.randn(tokens, HV, V, generator=make), torch.randn(3, HV, V, K, generator=make)
    g, beta = -torch.rand(tokens, HV, generator=make), torch.rand(tokens, HV, generator=make)
    tables = {"state_indices": torch.tensor([1]), "query_start_loc": torch.tensor([0, tokens])}
    return [q, k, v, g, beta], pool, tables


@pytest.mark.parametrize("factor", [4.0, 2.0**-10, -1.0])
def test_output_and_state_are_homogeneous_in_v_and_the_initial_state(factor):
    """Powers of two and signs pass through the recurrence bit for bit."""
    (q, k, v, g, beta), pool, tables = operands()
    scaled = pool * factor
    o = delta_rule(q, k, v, g, beta, pool, **tables)
    assert torch.equal(delta_rule(q, k, v * factor, g, beta, scaled, **tables), o * factor)
    assert torch.equal(scaled, pool * factor)


def test_strong_decay_forgets_and_no_beta_only_decays():
    """g ≤ -200 equals starting from zeros; β = 0 leaves h₀ · e^Σg, exactly e^0 = 1 where g = 0."""
    (q, k, v, g, beta), pool, tables = operands(1)
    fresh = {**tables, "has_initial_state": torch.tensor([False])}
    other = pool.clone()
    forgotten = delta_rule(q, k, v, torch.full_like(g, -200.0), beta, pool.clone(), **tables)
    assert torch.equal(forgotten, delta_rule(q, k, v, g, beta, other, **fresh))
    kept = pool.clone()
    delta_rule(q, k, v, torch.zeros_like(g), torch.zeros_like(beta), kept, **tables)
    assert torch.equal(kept, pool)


def test_both_state_orders_hold_the_same_bits():
    """ "KV" is "VK" transposed."""
    (q, k, v, g, beta), pool, tables = operands()
    other = pool.transpose(-1, -2).contiguous()
    o = delta_rule(q, k, v, g, beta, pool, **tables)
    assert same_bits(o, delta_rule(q, k, v, g, beta, other, state_order="KV", **tables))
    assert same_bits(pool, other.transpose(-1, -2))


def test_shards_of_the_heads_concatenate():
    """Each key head with its value heads, computed alone, gives its part of the whole."""
    (q, k, v, g, beta), pool, tables = operands()
    r, before = HV // H, pool.clone()
    whole = delta_rule(q, k, v, g, beta, pool, **tables)
    for i in range(H):
        own, part = slice(i * r, (i + 1) * r), before[:, i * r : (i + 1) * r].clone()
        one = slice(i, i + 1)
        o = delta_rule(q[:, one], k[:, one], v[:, own], g[:, own], beta[:, own], part, **tables)
        assert_close(o, whole[:, own])
        assert_close(part, pool[:, own])


def test_a_shared_read_slot_stays_as_it_is():
    """Two rows may start from one slot; both write their own, and the shared one keeps its bytes (short rows too)."""
    (q, k, v, g, beta), pool, _ = operands()
    tables = {"state_indices": torch.tensor([1, 2]), "query_start_loc": torch.tensor([0, 2, 6])}
    shared, conv_pool = pool[0].clone(), torch.randn(3, 4, 3)
    conv_shared = conv_pool[0].clone()
    read = torch.tensor([0, 0])
    delta_rule(q, k, v, g, beta, pool, **tables, read_indices=read)
    x = torch.randn(6, 4)
    causal_conv(x, torch.randn(4, 4), None, conv_pool, **tables, read_indices=read)
    assert same_bits(pool[0], shared)
    assert same_bits(conv_pool[0], conv_shared)
    assert same_bits(conv_pool[1], torch.cat([conv_shared[:, 2:], x[:2].T], 1))
