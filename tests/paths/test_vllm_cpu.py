"""vLLM's operators for the CPU as paths: what is said of them, how the core is driven, and what is known of it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import ConvLayout, DType, DTypes, Geometry, Options, Span, Stage, StateOrder
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Values, Vectors
from gdn_verify.conformance import conformance
from gdn_verify.hosts import HOSTS
from gdn_verify.known import Rule, rules_of, set_aside
from gdn_verify.oracles.compose import Problem, clean, evaluate
from gdn_verify.oracles.sites import Site
from gdn_verify.paths import find, vllm_cpu, vllm_cpu_core
from gdn_verify.paths.base import Path
from gdn_verify.paths.engines import engine_order
from gdn_verify.runner import CaseResult, run_case

ALL = {path.name: path for path in vllm_cpu.paths()}
OPERATORS = tuple(name for name in ALL if "core" not in name)
MISSING = vllm_cpu.installed()
needs_vllm = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
SHOWN = Presentation(state_order=StateOrder.KV, conv_layout=ConvLayout.D_CONTIGUOUS, first_slot=1)
BF16 = DTypes(
    activation=DType.BF16, conv_state=DType.BF16, gates=DType.BF16, params=DType.BF16, weights=DType.BF16
)  # fmt: skip


def _case(*rows: Row, num_spec: int = 0, eps: float = 1e-5, values: Values | None = None) -> Case:
    slots = 1 + max(slot or 0 for row in rows for slot in row.slots)
    geometry = Geometry(1, 2, 64, 64, num_spec=num_spec)
    return Case(geometry, BF16, slots, (Batch(rows),), values or Values(), Options(qk_eps=eps))


def _run(path: Path, case: Case) -> CaseResult:
    path.load("cpu")
    return run_case(case, SHOWN, path, HOSTS["cpu"])


@pytest.mark.parametrize("name", ALL)
def test_each_conforms(name: str) -> None:
    """What is declared holds, on a few cases of each kind of launch."""
    if missing := ALL[name].missing("cpu"):
        pytest.skip(str(missing))
    conformance(ALL[name], "cpu", cases=4)


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({}, "vllm-cpu is not installed"),
        ({"vllm": "0.32.0"}, "vllm 0.32.0 is no build for the CPU"),
        ({"vllm": "0.32.0+cu130"}, "is no build for the CPU"),
        ({"vllm": "0.32.0", "vllm-cpu": "0.32.0"}, "both installed"),
    ],
)
def test_a_stock_vllm_is_not_taken_for_it(
    versions: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package has the same name to import, and other operators; what would help is said."""

    def version(package: str) -> str:
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr("gdn_verify.paths.installed.version", version)
    missing = vllm_cpu.installed()
    assert missing is not None
    assert words in missing.reason
    assert vllm_cpu.INSTALL in missing.install


def test_a_build_for_the_cpu_is_taken_under_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the package index, or built from sources, which says so in its version."""
    for name in ("vllm-cpu", "vllm"):
        monkeypatch.setattr(vllm_cpu, "version_of", lambda package, name=name: "0.32.0+cpu" if package == name else "")
        monkeypatch.setattr(vllm_cpu, "find_spec", lambda package: object())
        assert vllm_cpu.installed() is None


@pytest.mark.parametrize("name", ALL)
def test_a_case_of_the_models_eps_is_refused_and_not_judged_by_another(name: str) -> None:
    """The operators add 1e-5; the one that is told takes both, and whoever asks for the reference gets 1e-6."""
    path, reference = ALL[name], find(f"{name}:reference=1")
    for eps, asked, taken in ((1e-6, path, name == "vllm-cpu-chunk"), (1e-5, path, True), (1e-6, reference, True)):
        row = Row(2, (0, 1), accepted=1) if name == "vllm-cpu-spec" else Row(1, (0,))
        case = _case(row, num_spec=1 if row.spec else 0, eps=eps)
        assert (refuses(asked.capabilities, asked.conventions, case, SHOWN) is None) == taken


@pytest.mark.parametrize("eps", [1e-6, 1e-5])
def test_the_oracle_adds_what_a_case_asks_for(eps: float) -> None:
    """To Σq² and Σk², before the root."""
    rng = np.random.default_rng(0)
    names = {"q": (3, 1, 8), "k": (3, 1, 8), "v": (3, 1, 8), "g": (3, 1), "beta": (3, 1)}
    tensors = {name: 1e-3 * rng.standard_normal(shape) for name, shape in names.items()}
    span, starts = Span(Stage.DELTA, Stage.DELTA), np.array([0, 3])
    problem = Problem(
        Geometry(1, 1, 8, 8), Options(qk_eps=eps), span, starts, tensors, np.zeros((1, 1, 8, 8))
    )  # fmt: skip
    made = evaluate(problem, clean())
    for name, scale in (("q", 8**-0.5), ("k", 1.0)):
        x = tensors[name]
        np.testing.assert_allclose(made[f"{name}_hat"][0], scale * x / np.sqrt((x * x).sum(-1, keepdims=True) + eps))


def test_the_betas_that_the_operators_round_are_declared() -> None:
    """Decode's and the gating operator's in bfloat16 arithmetic; those of drafts stay float32."""
    case = _case(Row(1, (0,)))
    for name in OPERATORS:
        sites = {site: dtype for site, dtype, _ in ALL[name].rounding(case, SHOWN, "cpu").sites}
        wanted = {"vllm-cpu-spec": DType.F32, "vllm-cpu-chunk": None}.get(name, DType.BF16)
        assert sites.get(Site.BETA) is wanted


def test_rows_reach_the_core_in_the_engines_order() -> None:
    """Decodes and drafts before prompts, and all as they came where that is the order."""
    rows = (Row(3, (0,)), Row(1, (1,)), Row(1, (2,), fresh=True), Row(2, (3, 4), accepted=2))
    order = engine_order(Batch(rows))
    assert order == [1, 3, 0, 2]
    tokens = vllm_cpu_core.tokens_of(Batch(rows), order)
    assert tokens is not None
    assert tokens.tolist() == [3, 5, 6, 0, 1, 2, 4]
    assert vllm_cpu_core.tokens_of(Batch(rows[1:2]), [0]) is None


@needs_vllm
@pytest.mark.parametrize("name", OPERATORS)
def test_the_norm_of_small_keys_is_not_the_models(name: str) -> None:
    """With Σk² near 1e-6 the states are a third of the models'; a release that adds 1e-6 fails here: unset `EPS`."""
    small = Values(q=Vectors.TINY, k=Vectors.TINY)
    row = Row(2, (0, 1), accepted=1) if name == "vllm-cpu-spec" else Row(1, (0,))
    case = _case(row, num_spec=1 if row.spec else 0, eps=1e-6, values=small)
    told = name == "vllm-cpu-chunk"
    assert bool(_run(find(f"{name}:reference=1"), case).findings) != told


@needs_vllm
@pytest.mark.parametrize("rule", rules_of("vllm-cpu-core", "cpu"), ids=lambda rule: rule.name)
def test_what_is_known_is_still_so(rule: Rule) -> None:
    """And nothing else is wrong with the rule's case. A release that mends it fails the gate: remove the rule."""
    fed = rule.case.case, rule.case.presentation
    judged = set_aside([rule], vllm_cpu.version_of("vllm-cpu") or "", fed, _run(ALL["vllm-cpu-core"], fed[0]).findings)
    assert judged.known
    assert not judged.findings
