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
from gdn_verify.cases.values import Betas, Fill, Gates, Values
from gdn_verify.conformance import MissingPathError, conformance
from gdn_verify.hosts import HOSTS
from gdn_verify.known import Rule, ledger, mended, set_aside
from gdn_verify.oracles.sites import Site
from gdn_verify.paths import find, flashinfer
from gdn_verify.paths.base import Path
from gdn_verify.paths.conformance import declarations
from gdn_verify.paths.flashinfer import base, card
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.runner import CaseResult, Effort, run_case
from gdn_verify.verdict import Check, Finding, Outcome

PATHS = tuple(flashinfer.paths())
SM100 = ("flashinfer-chunk-cake", "flashinfer-chunk-cudnn")
HERE = [path for path in PATHS if path.name not in SM100]
ASKED = [(path.name, kind) for path in HERE for kind in path.capabilities.kinds]
HEADS = Geometry(2, 4, 128, 128)
SERVED = DTypes(activation=DType.BF16, conv_state=DType.BF16, weights=DType.BF16)
VERSION = "0.7.2.post1"
RULES = [rule for rule in ledger() if rule.name.startswith("flashinfer-")]
WRONG = {
    "flashinfer-decay-floor": "floored",
    "flashinfer-scale-zero": "unset",
    "flashinfer-empty-row": "idle",
    "flashinfer-softplus-decode": "masked",
    "flashinfer-softplus-draft": "masked",
    "flashinfer-softplus-many-drafts": "masked",
}
"""Rules, and the stand-in that is wrong in their way."""
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


@pytest.mark.parametrize(
    ("name", "case", "shown", "reason"),
    [
        ("flashinfer-decode", replace(ONE, geometry=Geometry(1, 1, 128, 128)), Presentation(), "geometry.HV=1"),
        ("flashinfer-decode", ONE, Presentation(slot_pad=5), "presentation.slot_pad=5"),
        ("flashinfer-decode", replace(ONE, geometry=Geometry(2, 4, 256, 128)), Presentation(), "geometry.K=256"),
        ("flashinfer-fused-step", replace(ONE, options=Options(scale=0.0)), Presentation(), "options.scale=0.0"),
    ],
)
def test_what_is_not_computed_is_refused(name: str, case: Case, shown: Presentation, reason: str) -> None:
    """In one line that names the field."""
    assert reason in str(refusal_of(find(name), case, shown)).replace("K=256 outside", "geometry.K=256 outside")


@pytest.mark.parametrize(
    ("rule", "name"),
    [(rule, name) for rule in RULES for name in rule.paths],
    ids=lambda part: getattr(part, "name", part),
)
def test_each_rule_explains_what_is_wrong_and_nothing_else(
    rule: Rule, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own case shows what it names where that is wrong; where it is right, the rule is asked to go."""
    wrong = WRONG[rule.name]
    assert not proved(rule, name, monkeypatch, wrong)
    (gone,) = proved(rule, name, monkeypatch)
    assert gone.kind == "known finding is gone"


def proved(rule: Rule, name: str, monkeypatch: pytest.MonkeyPatch, wrong: str = "") -> list[Finding]:
    """What is left of the findings of a rule's own case, on stand-ins of which one is `wrong`."""
    fed = rule.case.case, rule.case.presentation
    with monkeypatch.context() as patch:
        if wrong == "masked":
            patch.setattr(flashinfer_standin, "gates", flashinfer_standin.masked)
        chunk = {"chunk_gated_delta_rule": getattr(flashinfer_standin, wrong)} if wrong not in ("", "masked") else {}
        flashinfer_standin.install(patch, **chunk)
        result = run_case(*fed, find(name), HOSTS["cpu"], effort=Effort.HASTY)
        judged = set_aside([rule], VERSION, fed, result.findings)
    return [*judged.findings, *mended(rule, name, VERSION, judged)]


def test_strong_decays_beside_much_are_not_explained() -> None:
    """Where values fill a row, 1e-10 of an old state is nothing: what is wrong there is something else."""
    (rule,) = (rule for rule in RULES if rule.name == "flashinfer-decay-floor")
    beside = Values(gates=Gates.STRONG, v=Fill.NORMAL)
    assert not rule.fits((replace(ONE, values=beside), Presentation()))
    assert rule.fits((replace(ONE, values=replace(beside, beta=Betas.NEAR_ZERO)), Presentation()))


def test_drafts_of_few_rows_have_a_softplus_with_a_branch() -> None:
    """Up to 128 rows times value heads; of those no rule speaks."""
    (rule,) = (rule for rule in RULES if rule.name == "flashinfer-softplus-many-drafts")
    spiked = Values(gates=Gates.SPIKE, v=Fill.NORMAL)
    few, many = (Case(replace(HEADS, num_spec=1), SERVED, 2 * n, (Batch(tuple(drafts(n))),), spiked) for n in (32, 33))
    assert not rule.fits((few, Presentation()))
    assert rule.fits((many, Presentation()))


def drafts(count: int) -> Iterator[Row]:
    """Rows of two tokens each."""
    return (Row(2, (2 * n, 2 * n + 1), accepted=1) for n in range(count))


@pytest.mark.parametrize("name", ["flashinfer-decode-bf16", "flashinfer-decode"])
def test_the_id_of_a_lone_row_has_the_stride_of_its_shape(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a table's column it has the table's, which `contiguous` leaves as it is and the compiler does not take."""
    flashinfer_standin.install(monkeypatch)
    path = find(name)
    (state,) = path.capabilities.states
    case = replace(ONE, dtypes=replace(SERVED, state=state))
    result = run_case(case, Presentation(table_pad=5, first_slot=1), path, HOSTS["cpu"])
    assert result.outcome(Check.VALUES) is Outcome.AGREES, result.findings


def test_pools_with_holes_have_one_size_where_that_is_compiled() -> None:
    """Drafts, and decodes of bfloat16 states; dense pools may have any size, and so may those of other kernels."""
    holes = {path.name for path in PATHS if path.one_pool(Presentation(slot_pad=16))}
    assert {"flashinfer-mtp", "flashinfer-mtp-bf16", "flashinfer-decode-bf16"} <= holes
    assert "flashinfer-decode" not in holes
    assert not any(path.one_pool(Presentation()) for path in PATHS)


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
