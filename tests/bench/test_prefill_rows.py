"""Rows of a prefill: words that name them, labels that show them, published grids, bytes that must move."""

from __future__ import annotations

import prefilled
import pytest
from typer.testing import CliRunner

from gdn_verify import cli
from gdn_verify.bench.contender import Setting
from gdn_verify.bench.inputs import ACTIVATION
from gdn_verify.bench.prefill.rows import grid, lengths, mix
from gdn_verify.bench.sizes import PREFILL_LAYERS, RECURRENCE, cold_bytes, floor_bytes, layers, state_bytes
from gdn_verify.cases.contract import DType, Geometry

QWEN = Geometry(16, 32, 128, 128)
SLOT = 32 * 128 * 128 * 4
USAGE = 2


def test_words_name_the_rows_of_each_launch() -> None:
    """Rows x tokens, tokens alone, sums of these, and the mix."""
    assert lengths("1x1024,4x8") == [(1024,), (8, 8, 8, 8)]
    assert lengths("17+64+2000") == [(17, 64, 2000)]
    assert lengths("2x3+70") == [(3, 3, 70)]
    assert lengths("mix32,5") == [mix(), (5,)]


def test_the_mix_is_always_the_same() -> None:
    """32 rows of 17 to 2000 tokens."""
    assert mix() == mix()
    assert len(mix()) == 32
    assert min(mix()) >= 17
    assert max(mix()) <= 2000


def test_labels_tell_rows_apart() -> None:
    """Short ones in full, many lengths by their range; a decode's is its number of rows."""
    labels = {(8192,) * 4: "4x8192", (1024,): "1x1024", (17, 64, 2000): "17+64+2000", (3, 3, 70): "2x3+70"}
    for rows, label in labels.items():
        assert prefilled.setting(lengths=rows).label == label
    assert prefilled.setting(lengths=mix()).label == f"32x{min(mix())}…{max(mix())}"
    assert Setting(QWEN, 16, DType.F32).label == "16"
    assert str(prefilled.setting(lengths=(4,), fresh=True)) == "1x4, float32 state, fresh"


def test_the_grids_are_the_published_ones() -> None:
    """Six shapes of equal heads, as wide as 256; eight kinds of heads by fifteen kinds of rows."""
    fla = grid("fla")
    assert len(fla) == 6
    assert fla[0] == (Geometry(96, 96, 128, 128), (8192,))
    assert (Geometry(32, 32, 256, 256), (2048,) * 8) in fla
    flashinfer = grid("flashinfer")
    assert len(flashinfer) == len(set(flashinfer)) == 8 * 15
    assert (Geometry(2, 8, 128, 128), (1024, 7168)) in flashinfer
    assert max(sum(rows) for _, rows in flashinfer) == 32 * 8192
    for geometry, rows in (*fla, *flashinfer):
        Setting.prefill(geometry, rows, DType.F32)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rows", "many"), "rows='many'"),
        (("--rows", "0x8"), "setting.lengths"),
        (("--rows", "2x0"), "setting.lengths"),
        (("--grid", "vllm"), "fla, flashinfer"),
        (("--grid", "fla", "--rows", "1x8"), "has its own"),
        (("--grid", "fla", "--geometry", "1,1,16,16"), "no launch is left"),
        (("--most-tokens", "1"), "no launch is left"),
        (("--states", "float8"), "float8"),
        (("--geometry", "qwen9"), "qwen3-next"),
    ],
)
def test_a_word_that_is_not_understood_is_refused(words: tuple[str, ...], said: str) -> None:
    """With what was given, or with what there is, before anything is looked for."""
    done = CliRunner().invoke(cli.app, ["bench", "prefill", *words])
    assert done.exit_code == USAGE
    assert said in done.stderr


def test_a_prefill_moves_its_tensors_once() -> None:
    """q, k, v and o, g and β, a state in and one out a row; slot ids. Fresh rows have none to read."""
    setting = Setting.prefill(QWEN, (1000, 24), DType.F32)
    qkvo = 1024 * (2 * 16 * 128 + 2 * 32 * 128) * ACTIVATION.itemsize
    assert floor_bytes(setting, RECURRENCE) == qkvo + 4 * (1024 * 2 * 32 + 2) + 4 * SLOT
    assert state_bytes(setting) == 4 * SLOT
    assert state_bytes(Setting.prefill(QWEN, (1000, 24), DType.F32, fresh=True)) == 2 * SLOT


def test_layers_of_a_prefill_count_all_that_they_move() -> None:
    """A long prefill's few layers are cold by its tokens alone."""
    setting = Setting.prefill(QWEN, (8192,), DType.F32)
    moved = cold_bytes(setting)
    assert moved > 100 * SLOT // 2
    assert layers(setting, moved, 1 << 50, moved, PREFILL_LAYERS) == 4
    assert layers(setting, 2 * moved, 1 << 50, moved, PREFILL_LAYERS) == 8
