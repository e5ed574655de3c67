"""Packed projections: where each element lies, and that packing loses nothing."""

from __future__ import annotations

import numpy as np
import pytest

from gdn_verify.oracles.stages import pack, unpack

SHAPES = [(1, 1, 1, 1), (2, 2, 3, 2), (2, 6, 4, 3), (3, 3, 2, 5)]


@pytest.mark.parametrize("lead", [(5,), (1, 4), (2, 0)])
@pytest.mark.parametrize(("H", "HV", "K", "V"), SHAPES)
@pytest.mark.parametrize("packing", ["flat", "interleaved"])
def test_pack_inverts_unpack_bit_for_bit(packing, H, HV, K, V, lead):
    """Any leading axes and dtype, no token included."""
    width = 2 * (H * K + HV * V)
    qkvz = np.arange(np.prod(lead) * width, dtype=np.uint16).reshape(*lead, width)
    ba = np.zeros((*lead, 2 * HV), np.uint16) + np.arange(2 * HV, dtype=np.uint16)
    mixed, z, b, a = unpack(qkvz, ba, H, HV, K, V, packing)
    assert mixed.shape == (*lead, 2 * H * K + HV * V)
    assert z.shape == (*lead, HV, V)
    assert b.shape == a.shape == (*lead, HV)
    for again, original in zip(pack(mixed, z, b, a, H, K, packing), (qkvz, ba), strict=True):
        assert again.dtype == original.dtype
        assert np.array_equal(again, original)


def test_an_interleaved_projection_is_grouped_by_key_head():
    """[q | k | v(r) | z(r)] and [b(r) | a(r)] per key head; the parts come out flat over all heads."""
    head = [["q0", "q0", "k0", "k0", "v0", "v1", "z0", "z1"], ["q1", "q1", "k1", "k1", "v2", "v3", "z2", "z3"]]
    ba = np.array([["b0", "b1", "a0", "a1", "b2", "b3", "a2", "a3"]])
    mixed, z, b, a = unpack(np.array([head[0] + head[1]]), ba, 2, 4, 2, 1, "interleaved")
    assert mixed[0].tolist() == ["q0", "q0", "q1", "q1", "k0", "k0", "k1", "k1", "v0", "v1", "v2", "v3"]
    assert z[0, :, 0].tolist() == ["z0", "z1", "z2", "z3"]
    assert b[0].tolist() == ["b0", "b1", "b2", "b3"]
    assert a[0].tolist() == ["a0", "a1", "a2", "a3"]


def test_a_flat_projection_is_grouped_by_part():
    """[q | k | v | z] and [b | a] over all heads."""
    mixed, z, b, a = unpack(np.array([list("qQkKvVwWzZyY")]), np.array([list("bBcCaAdD")]), 2, 4, 1, 1, "flat")
    assert "".join(mixed[0]) == "qQkKvVwW"
    assert "".join(z[0, :, 0]) == "zZyY"
    assert "".join(b[0]) == "bBcC"
    assert "".join(a[0]) == "aAdD"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (np.zeros((1, 7)), np.zeros((1, 2)), 1, 1, 2, 2, "flat"),
            r"qkvz has shape \(1, 7\), expected a last axis of 8",
        ),
        ((np.zeros((1, 8)), np.zeros((1, 3)), 1, 1, 2, 2, "flat"), "ba has shape"),
        ((np.zeros((1, 8)), np.zeros((1, 2)), 2, 3, 2, 2, "flat"), "HV is 3, expected a positive multiple of H = 2"),
        ((np.zeros((1, 8)), np.zeros((1, 2)), 1, 1, 2, 2, "planar"), "packing is 'planar'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    """ValueError with the argument and what was expected."""
    with pytest.raises(ValueError, match=message):
        unpack(*arguments)
