"""Bytes that must move, counted by hand; layers; geometries by name."""

from __future__ import annotations

import benched
import pytest

from gdn_verify.bench.contender import Setting
from gdn_verify.bench.inputs import draw
from gdn_verify.bench.presets import geometry, presets
from gdn_verify.bench.sizes import LAYERS, TooLargeError, floor_bytes, layers, state_bytes, stored_bytes
from gdn_verify.cases.contract import DType, Geometry, Span, Stage

LARGE = Setting(Geometry(16, 32, 128, 128), 4, DType.F32)
STATES = 4 * 2 * 32 * 128 * 128 * 4


def test_a_whole_decode_moves_its_tensors_once() -> None:
    """Four rows of Qwen3-Next: states, qkvz, ba, conv state, output, slot ids and parameters."""
    D, values = 2 * 16 * 128 + 32 * 128, 32 * 128
    activations = 4 * (D + values + 2 * 32 + 3 * D + 3 * D + values)
    weights = 4 * D + 128
    assert floor_bytes(LARGE, benched.WHOLE) == STATES + 2 * (activations + weights) + 4 * (2 * 32 + 4)


def test_a_recurrence_moves_less() -> None:
    """q, k, v, a and b, or g and β, and o; no conv state, no z, and of the parameters those of its gates."""
    qkvo = 2 * 4 * (2 * 16 * 128 + 2 * 32 * 128)
    gated = floor_bytes(LARGE, benched.RECURRENCE)
    assert gated == STATES + qkvo + 2 * 4 * 2 * 32 + 4 * (2 * 32 + 4)
    assert floor_bytes(LARGE, Span(Stage.DELTA, Stage.DELTA)) == STATES + qkvo + 4 * (4 * 2 * 32 + 4)


def test_drafts_write_a_state_a_token() -> None:
    """And read one a row; of the conv state they read W-1 columns and write W-2+S."""
    drafts = Setting(Geometry(16, 32, 128, 128, num_spec=3), 4, DType.BF16)
    slot = 32 * 128 * 128 * 2
    assert state_bytes(drafts) == 4 * (1 + 4) * slot
    more = floor_bytes(drafts, benched.WHOLE) - floor_bytes(drafts, Span(Stage.GATES, Stage.NORM))
    D = 2 * 16 * 128 + 32 * 128
    assert more == 2 * (4 * D * (3 + 6) + 4 * D)


def test_stored_bytes_are_those_of_the_tensors() -> None:
    """A layer's pools make up most of them."""
    inputs = draw(benched.setting(), "cpu", 1, *benched.CORNERS[0])
    pools = inputs.pool.nbytes + inputs.conv_pool.nbytes
    assert pools < stored_bytes(inputs) < 2 * pools


def test_layers_are_as_many_as_cold_caches_need_and_memory_holds() -> None:
    """The usual number for large states, more for small ones, fewer where memory ends."""
    slots = 4 * 32 * 128 * 128 * 4
    assert layers(LARGE, slots, 1 << 40, slots) == LAYERS
    assert layers(LARGE, 100 * slots, 1 << 40, slots) == 400
    assert layers(LARGE, slots, 20 * slots, slots) == 14
    with pytest.raises(TooLargeError, match="4 layers of 8 MiB are needed for cold caches and 2 fit"):
        layers(LARGE, slots, 3 * slots, slots)


def test_a_shard_divides_the_heads() -> None:
    """One, two, four or eight ways; the head dimensions stay."""
    assert geometry("qwen3-next") == Geometry(16, 32, 128, 128)
    assert geometry("qwen3.5/8") == Geometry(2, 6, 128, 128)
    assert geometry("1,2,16,32") == Geometry(1, 2, 16, 32)
    assert len(presets()) == 8


@pytest.mark.parametrize("words", ["qwen4", "1,2,3", "a,b,c,d", "2,3,16,16", ""])
def test_an_unknown_geometry_is_refused(words: str) -> None:
    """With what there is, or with what the contract forbids."""
    with pytest.raises(ValueError, match=r"geometry"):
        geometry(words)
