"""AITER's paths: what they declare, what they say where they cannot run, and the defects that they keep clear of."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path as FilePath

import pytest
from upstream import conforms, right_by_now

from gdn_verify.paths import aiter
from gdn_verify.paths.aiter import base, delta, rocm
from gdn_verify.paths.base import Path
from gdn_verify.paths.conformance import declarations

PATHS = tuple(aiter.paths())
TRITON = [path for path in PATHS if "interpreter" in path.hosts]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_declarations_hold(path: Path) -> None:
    """Also where AITER is not installed, and of kernels that no machine here runs."""
    declarations(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", TRITON, ids=lambda path: path.name)
def test_the_interpreter_agrees(path: Path) -> None:
    """Every Triton path, on a few cases of each kind."""
    conforms(path, cases=12)  # of some paths half show what is known


def _found(monkeypatch: pytest.MonkeyPatch, folder: FilePath | None) -> None:
    spec = ModuleSpec("aiter", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(base, "find_spec", lambda name: None if folder is None and name == "aiter" else spec)


def test_an_absent_package_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """No release on PyPI has these kernels, so it is installed from its source."""
    _found(monkeypatch, None)
    missing = delta.AiterChunk().missing("interpreter")
    assert "aiter is not installed (AITER_TRITON_ONLY=1 pip install git+" in str(missing)


def test_another_package_called_aiter_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath) -> None:
    """PyPI's aiter is about asynchronous iterators, and an AITER of 2025 has no Gated DeltaNet."""
    _found(monkeypatch, tmp_path)
    assert "has no Gated DeltaNet kernels" in str(delta.AiterChunk().missing("interpreter"))
    (tmp_path / base.KERNELS).mkdir(parents=True)
    assert delta.AiterChunk().missing("interpreter") is None


@pytest.mark.parametrize("path", rocm.paths(), ids=lambda path: path.name)
def test_kernels_of_hip_and_flydsl_need_a_rocm_chip(path: Path) -> None:
    """They are declared for it alone, and say why elsewhere."""
    assert path.hosts == ("rocm",)
    assert "needs a ROCm chip" in str(path.missing("interpreter"))


def test_a_card_of_amd_gets_all_of_aiter() -> None:
    """HIP kernels beside the Triton ones; elsewhere AITER is told to leave them out."""
    assert delta.AiterChunk().environment("rocm") == {}
    assert delta.AiterChunk().environment("cuda") == {"AITER_TRITON_ONLY": "1"}


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="AITER e4048607; once mended, its rule or its path's care is to go"
)
@pytest.mark.parametrize(
    "defect",
    [
        "rows_of_no_tokens",
        "views_of_one_tensor",
        "pools_with_holes",
        "slots_behind_two_to_the_31",
        "convs_of_width_five",
    ],
)
def test_what_the_paths_keep_clear_of_is_right(defect: str) -> None:
    """It is not, as long as it is in the ledger or they are given something else: see docs/implementations/aiter.md."""
    assert right_by_now(delta.AiterChunk(), "aiter_defects.py", defect)
