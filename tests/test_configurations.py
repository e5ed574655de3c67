"""Sweeps: every configuration is a path of its own, and a defect of one alone is found there and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as File

import pytest

from gdn_verify import gate
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry, Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.configurations import configurations
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.planted import wrong_head_map
from gdn_verify.paths import Launch, Outputs, Path, find
from gdn_verify.paths.fallback import Fallback
from gdn_verify.profiles import PROFILES
from gdn_verify.runner import run_case

pytest.importorskip("triton")

PROFILE = replace(PROFILES["configurations"], interpreted_short=3, interpreted_long=2)
LAUNCHED = Case(Geometry(1, 1, 8, 8), DTypes(), 1, (Batch((Row(1, (0,)),)),))


def names(path: str, host: str = "interpreter") -> list[str]:
    found, absent = configurations([find(path)], [host])
    assert not absent
    return [each.name for each, _ in found]


def test_every_configuration_has_a_name() -> None:
    """Rows of a table, tiles of a chunk, and what a third party's kernels are autotuned over."""
    assert names("fused-decode") == [f"fused-decode:config={place}" for place in range(5)]
    assert len(names("chunk-delta")) == 8
    assert names("fallback", "cpu") == ["fallback"]
    pytest.importorskip("fla")
    assert len(names("fla-chunk")) > 10


def test_what_cannot_be_asked_is_absent() -> None:
    """With the reason, as in a gate; never silently nothing."""
    found, absent = configurations([find("fused-decode")], ["rocm"])
    assert not found
    assert "rocm" in absent["fused-decode", "rocm"]


def wrong_in_the_third(path: Path) -> Run:
    """Value heads read other key heads, in one configuration alone."""
    return wrong_head_map(path) if path.configuration == 2 else path.run


def test_a_defect_of_one_configuration_is_found_by_the_sweep_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """pipeliner-emits-extra-async-copy is such a one: the winner was right."""
    monkeypatch.setenv("PYTHONPATH", str(File(__file__).parent))
    plant = f"{__name__}:wrong_in_the_third"
    swept = [(find(f"fla-chunk:config={place}"), "interpreter") for place in (1, 2)]
    report = gate.run(gate.plan_for(swept, [Kind.PREFILL], PROFILE, plant, laws=()), PROFILE, workers=1)
    assert {failure.path for failure in report.failures} == {"fla-chunk:config=2"}
    assert not report.broken
    plain = gate.plan([find("fla-chunk")], ["interpreter"], [Kind.PREFILL], PROFILE, plant, laws=())
    report = gate.run(plain, PROFILE, workers=1)
    assert not report.failures
    assert not report.broken


class OutOfResources(Exception):  # noqa: N818 - Triton's name
    """Named as Triton's, which exists where Triton does."""


class Large(Fallback):
    """Does not fit the chip."""

    def run(self, launch: Launch) -> Outputs:
        raise OutOfResources("shared memory, required: 300000, limit: 232448")


def test_a_configuration_that_does_not_fit_is_refused() -> None:
    """An autotuner passes it over. A path that chose it by itself is wrong."""
    swept = Large()
    swept.configuration = 1
    result = run_case(LAUNCHED, Presentation(), swept, HOSTS["cpu"])
    assert result.refused.startswith("configuration 1 does not fit: shared memory")
    assert not result.findings
    assert run_case(LAUNCHED, Presentation(), Large(), HOSTS["cpu"]).findings


def test_a_shape_known_to_be_wrong_is_refused_before_it_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 tokens in four warps on Hopper, where keys are not aligned."""
    from gdn_verify.kernels.triton.target import Target
    from gdn_verify.paths.chunk import ChunkDelta

    path = find("chunk-delta:chunk=64/scan_warps=4")
    assert isinstance(path, ChunkDelta)
    monkeypatch.setattr(path, "_chip", Target("cuda", "90"))
    case = replace(LAUNCHED, geometry=Geometry(1, 1, 64, 64), dtypes=DTypes(activation=DType.BF16))
    assert path.refuses(case, Presentation()) is None
    assert "64 tokens in 4 warps are wrong on this chip" in (path.refuses(case, Presentation(row_pad=3)) or "")
