"""FlashInfer's paths: declarations, what is lacking, what is refused, and how arguments are mapped.

The mapping is proved against stand-ins that compute what FlashInfer's documentation promises (`flashinfer_standin`).
Where a card and the package are there, the kernels themselves are asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import flashinfer_standin
import pytest
from torch import Tensor

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry, Kind, Options
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.sizes import PREFILL_SMALL, SMALL
from gdn_verify.cases.strategies import cases
from gdn_verify.cases.values import Fill, Gates, Values
from gdn_verify.conformance import MissingPathError, conformance
from gdn_verify.hosts import HOSTS
from gdn_verify.oracles.sites import Site
from gdn_verify.paths import find, flashinfer
from gdn_verify.paths.base import Path
from gdn_verify.paths.conformance import declarations
from gdn_verify.paths.flashinfer import base, card
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.runner import CaseResult, run_case
from gdn_verify.verdict import Check, Outcome

PATHS = tuple(flashinfer.paths())
SM100 = ("flashinfer-chunk-cake", "flashinfer-chunk-cudnn")
HERE = [path for path in PATHS if path.name not in SM100]
ASKED = [(path.name, kind) for path in HERE for kind in path.capabilities.kinds]
HEADS = Geometry(2, 4, 128, 128)
SERVED = DTypes(activation=DType.BF16, conv_state=DType.BF16, weights=DType.BF16)
ONE = Case(HEADS, SERVED, 1, (Batch((Row(1, (0,)),)),))


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_declarations_hold(path: Path) -> None:
    """Also where FlashInfer is not installed, and of cards that nobody has here."""
    declarations(path)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "host"), [(path, host) for path in PATHS for host in path.hosts], ids=str)
def test_the_kernels_agree(path: Path, host: str) -> None:
    """Where there is a card for them, on a few cases of each kind."""
    try:
        conformance(path, host, cases=4)
    except MissingPathError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("name", "kind"), ASKED, ids=str)
def test_arguments_mean_what_the_documentation_says(name: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates, ids, slots, layouts, scales and states reach the function as it asks for them, and come back."""
    flashinfer_standin.install(monkeypatch)
    results = list(judged(find(name), kind))
    findings = [finding for result in results for finding in result.findings]
    assert not findings, findings
    assert sum(result.outcome(Check.VALUES) is Outcome.AGREES for result in results) >= 2


@pytest.mark.parametrize("name", ["flashinfer-chunk", "flashinfer-chunk-pool"])
def test_a_gate_that_is_taken_otherwise_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that squared its α would pass no check: the cases tell decays apart."""

    def squared(*args: Any, g: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        return flashinfer_standin.chunk_gated_delta_rule(*args, g=g.square(), **options)

    flashinfer_standin.install(monkeypatch, chunk_gated_delta_rule=squared)
    assert any(result.findings for result in judged(find(name), Kind.PREFILL))


def test_a_draft_that_reads_another_column_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that all read their first column do not agree."""
    flashinfer_standin.install(monkeypatch)
    monkeypatch.setattr(
        "gdn_verify.paths.flashinfer.drafts.reads", lambda launch: launch["state_indices"][:, 0].contiguous()
    )
    assert any(result.findings for result in judged(find("flashinfer-mtp"), Kind.SPEC))


def judged(path: Path, kind: Kind, count: int = 5) -> Iterator[CaseResult]:
    """A few cases of one kind, run in this process."""
    size = replace(PREFILL_SMALL if kind is Kind.PREFILL else SMALL, rare_work=0, rare_row_tokens=0, max_value_heads=4)
    for case, shown in draw_cases(cases(path.capabilities, path.conventions, kind, size=size), count, seed=4):
        yield run_case(case, shown, path, HOSTS["cpu"])


def there(monkeypatch: pytest.MonkeyPatch, *, lacking: str = "", version: str = "0.7.2.post1") -> None:
    """A machine with all packages but one, and an H100."""
    monkeypatch.setattr(base, "find_spec", lambda name: None if name == lacking else object())
    monkeypatch.setattr(base, "installed", lambda: version)
    monkeypatch.setattr(base, "capability", lambda: (9, 0))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_without_the_package_a_path_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the release that was read."""
    there(monkeypatch, lacking="flashinfer")
    assert str(path.missing("cuda")) == f"flashinfer is not installed ({base.INSTALL})"


@pytest.mark.parametrize(("module", "package"), base.COMPILERS.items())
def test_without_a_compiler_there_are_no_kernels(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FlashInfer imports without it; the step made of torch's functions needs none."""
    there(monkeypatch, lacking=module)
    assert str(find("flashinfer-decode").missing("cuda")) == f"{package} is not installed (pip install '{package}')"
    assert find("flashinfer-fused-step").missing("cuda") is None


@pytest.mark.parametrize(
    ("version", "taken"), [("0.6.9", False), ("0.7.1.post3", False), ("0.7.2", True), ("0.10.0rc1", True)]
)
def test_releases_before_the_one_that_was_read_are_not_taken(
    version: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pads and gates may mean something else."""
    there(monkeypatch, version=version)
    assert (find("flashinfer-decode").missing("cuda") is None) is taken


@pytest.mark.parametrize(
    ("found", "here", "elsewhere"),
    [
        (None, "needs an NVIDIA card of SM90 or later: no driver answers", "SM100 or later: no driver answers"),
        ((8, 9), "needs a card of SM90 to SM121, not SM89", "needs a card of SM100 to SM103, not SM89"),
        ((9, 0), "None", "needs a card of SM100 to SM103, not SM90"),
        ((10, 3), "None", "None"),
    ],
    ids=str,
)
def test_a_card_that_does_not_fit_is_named(
    found: tuple[int, int] | None, here: str, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backends for SM100 say so on a Hopper card."""
    there(monkeypatch)
    monkeypatch.setattr(base, "capability", lambda: found)
    assert str(find("flashinfer-chunk").missing("cuda")) == here
    assert all(str(find(name).missing("cuda")).endswith(elsewhere) for name in SM100)


def test_without_a_driver_there_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine for computing on processors has no such library."""
    monkeypatch.setattr(card, "LIBRARY", "libno-such-driver.so")
    card.capability.cache_clear()
    assert card.capability() is None
    card.capability.cache_clear()


SPIKED = Values(gates=Gates.SPIKE, v=Fill.NORMAL)


@pytest.mark.parametrize(
    ("name", "case", "shown", "reason"),
    [
        ("flashinfer-decode", replace(ONE, geometry=Geometry(1, 1, 128, 128)), Presentation(), "geometry.HV=1"),
        ("flashinfer-decode", ONE, Presentation(slot_pad=5), "presentation.slot_pad=5"),
        ("flashinfer-decode", replace(ONE, geometry=Geometry(2, 4, 256, 128)), Presentation(), "geometry.K=256"),
        ("flashinfer-chunk-pool", replace(ONE, options=Options(scale=0.0)), Presentation(), "options.scale=0.0"),
        ("flashinfer-fused-step", replace(ONE, options=Options(scale=0.0)), Presentation(), "options.scale=0.0"),
        ("flashinfer-chunk", replace(ONE, values=Values(gates=Gates.STRONG, v=Fill.ZEROS)), Presentation(), "1e-10"),
    ],
)
def test_what_is_not_computed_is_refused(name: str, case: Case, shown: Presentation, reason: str) -> None:
    """In one line that names the field."""
    assert reason in str(refusal_of(find(name), case, shown)).replace("K=256 outside", "geometry.K=256 outside")


def test_strong_decays_are_taken_where_they_are_right() -> None:
    """Beside values that fill a row, 1e-10 of an old state is nothing."""
    case = replace(ONE, values=Values(gates=Gates.STRONG, v=Fill.NORMAL))
    assert find("flashinfer-chunk").refuses(case, Presentation()) is None


def test_gates_beyond_softplus_are_refused_where_it_has_no_branch() -> None:
    """Kernels of bfloat16 states, and of drafts of many rows; the others compute them."""
    narrow = replace(ONE, values=SPIKED, dtypes=replace(SERVED, state=DType.BF16))
    assert "0" in str(find("flashinfer-decode-bf16").refuses(narrow, Presentation()))
    assert find("flashinfer-decode").refuses(replace(ONE, values=SPIKED), Presentation()) is None
    few, many = (Case(replace(HEADS, num_spec=1), SERVED, 2 * n, (Batch(tuple(drafts(n))),), SPIKED) for n in (32, 33))
    assert find("flashinfer-mtp").refuses(few, Presentation()) is None
    assert find("flashinfer-mtp").refuses(many, Presentation()) is not None


def drafts(count: int) -> Iterator[Row]:
    """Rows of two tokens each."""
    return (Row(2, (2 * n, 2 * n + 1), accepted=1) for n in range(count))


def test_a_state_without_a_slot_is_refused_where_the_kernel_stores_it() -> None:
    """With a buffer the caller drops it."""
    case = Case(replace(HEADS, num_spec=1), SERVED, 2, (Batch((Row(2, (0, None), accepted=1),)),))
    assert find("flashinfer-mtp").refuses(case, Presentation()) is None
    assert "has no slot" in str(find("flashinfer-mtp-scatter").refuses(case, Presentation()))


def test_chunks_beside_each_other_are_found_by_their_length() -> None:
    """Each joins states by products of TF32 operands, which one kernel does not do."""
    path = find("flashinfer-chunk-cp:length=64")
    assert path.configured({"length": 65}) is None
    assert [*path.configurations()] == [{"length": 64}, {"length": 128}, {"length": 512}]
    joined, whole = (
        find(name).rounding(ONE, Presentation(), "cuda").levels[Site.STATE_DECAY, 0]
        for name in ("flashinfer-chunk-cp", "flashinfer-chunk-normed")
    )
    assert joined > 1000 * whole
