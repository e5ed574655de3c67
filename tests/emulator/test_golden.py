"""Contract: the interpreter computes what a GPU computed, and the comparison notices when it does not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import gdn_verify
from gdn_verify.emulator import golden, golden_inputs

ROOT = Path(gdn_verify.__file__).parents[1]


def run_golden(command: str, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, where it may install the interpreter."""
    arguments = [sys.executable, "-m", "gdn_verify.emulator.golden", command, str(path), *options]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


# -- what a GPU recorded -------------------------------------------------------------------------------


def test_vectors_were_recorded_on_a_gpu() -> None:
    """Completely, by real hardware of the stated kind."""
    data = golden.load()
    assert data["recorded_on"]["capability"] == "sm_90"
    assert data["failed"] == {}
    assert data["vectors"].keys() == {group.name for group in golden_inputs.groups()}


def test_interpreter_matches_the_gpu() -> None:
    """Bit for bit where rounding is exact, within the stated units elsewhere."""
    result = run_golden("compare", golden.GOLDEN)
    assert result.returncode == 0, result.stdout + result.stderr


def test_measured_distances_are_within_the_bounds() -> None:
    """What was measured once stands in the file, for every group."""
    measured = golden.load()["interpreter_distance"]
    assert measured.keys() == {group.name for group in golden_inputs.groups()}
    assert all(measured[group.name] <= group.bound for group in golden_inputs.groups())


# -- the recorder and the comparison -------------------------------------------------------------------


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file recorded in the interpreter itself."""
    path = tmp_path_factory.mktemp("golden") / "dry.json"
    result = run_golden("record", path, "--dry-run")
    assert result.returncode == 0, result.stdout + result.stderr
    return path


def test_recording_and_comparing_in_one_place_agree(dry_run: Path) -> None:
    """Whatever is written is read back to the bit; and a dry run says what it is."""
    result = run_golden("measure", dry_run)
    data = json.loads(dry_run.read_text())
    assert result.returncode == 0, result.stdout
    assert set(data["interpreter_distance"].values()) == {0.0}
    assert data["recorded_on"]["gpu"] == golden.INTERPRETER


def flip_last_bit(vectors: dict[str, Any]) -> None:
    """Change the last element of a group's output by one unit."""
    words = vectors["output"]["bits"][-1].split()
    words[-1] = f"{int(words[-1], 16) ^ 1:0{len(words[-1])}x}"
    vectors["output"]["bits"][-1] = " ".join(words)


def test_one_wrong_bit_is_noticed(dry_run: Path, tmp_path: Path) -> None:
    """The report names group, operands and both results."""
    data = json.loads(dry_run.read_text())
    for name in ("mul_bf16", "dot_integers_bf16", "cast_f32_f16"):
        flip_last_bit(data["vectors"][name])
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(data))
    result = run_golden("compare", changed)
    assert result.returncode == 1
    missed = [line for line in result.stdout.splitlines() if "MISSED" in line]
    assert [line.split()[0] for line in missed] == ["cast_f32_f16", "mul_bf16", "dot_integers_bf16"]
    assert "MISSED 1: mul(" in missed[1]


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    """Nobody has to search for it."""
    with pytest.raises(FileNotFoundError, match="golden record"):
        golden.load(tmp_path / "golden.json")


def test_distances_count_representable_numbers() -> None:
    """Across zero too; NaN is near NaN only; subnormals are zero where flushing is allowed."""
    one = torch.tensor([1.0, 0.0, float("nan"), float("nan"), 1e-40])
    other = torch.tensor([1 + 2.0**-22, -0.0, float("nan"), 1.0, 0.0])
    assert golden.ulps(one, other, flush=False).tolist()[:4] == [2, 1, 0, float("inf")]
    assert golden.ulps(one, other, flush=True).tolist() == [2, 0, 0, float("inf"), 0]
