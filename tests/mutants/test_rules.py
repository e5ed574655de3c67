"""Published tests' rules: comparisons pass what is right, the healthy path passes all, and each mutant has its fate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path as File

import pytest
import torch
from typer.testing import CliRunner

from gdn_verify.cases.contract import DType
from gdn_verify.cli import app
from gdn_verify.facts import measure
from gdn_verify.feed import TORCH
from gdn_verify.hosts import HOSTS
from gdn_verify.mutants import coarse, peers
from gdn_verify.mutants.comparisons import Close, Comparison, Equal, FewBeyond, MaxAndMean, Ratio
from gdn_verify.mutants.draws import Source
from gdn_verify.mutants.peers import Bench, Fate
from gdn_verify.mutants.published import Judge, Rule, Setting
from gdn_verify.mutants.raw_paths import without_norm
from gdn_verify.mutants.rules import RULES

RULE_OF = {
    "close": Close(1e-2, 1e-3),
    "equal": Equal(),
    "ratio": Ratio(0.005),
    "ratio that warns": Ratio(0.005, warns=True),
    "max and mean": MaxAndMean(2e-3, 6e-5),
    "few beyond": FewBeyond(0.1, 0.01),
}
RESULT = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("compare", RULE_OF.values(), ids=RULE_OF)
def test_a_comparison_passes_the_right_result(compare: Comparison) -> None:
    """Whatever its numbers."""
    assert compare(RESULT, RESULT.clone())


@pytest.mark.parametrize("compare", RULE_OF.values(), ids=RULE_OF)
@pytest.mark.parametrize("wrong", [0 * RESULT, -RESULT, RESULT.roll(1, 0), RESULT * math.nan])
def test_a_comparison_rejects_what_is_grossly_wrong(compare: Comparison, wrong: torch.Tensor) -> None:
    """Of results whose elements are about 1."""
    assert not compare(RESULT, wrong)


def test_one_wrong_element_is_seen_or_not_as_each_rule_says() -> None:
    """A share of elements may err under one rule, an average hides one under another."""
    wrong = RESULT.clone()
    wrong[0, 0] += 0.2
    seen = {name: not compare(RESULT, wrong) for name, compare in RULE_OF.items()}
    assert seen == {
        "close": True,
        "equal": True,
        "ratio": False,
        "ratio that warns": False,
        "max and mean": True,
        "few beyond": False,
    }


def test_the_bounds_of_a_ratio_that_warns() -> None:
    """A failure is a warning where no error is above 0.3, and counts where one is; without warnings it always does."""
    expected = torch.full((100,), 0.2)
    zero, far = torch.zeros(100), torch.full((100,), -0.2)
    assert Ratio(0.005, warns=True)(expected, zero)
    assert not Ratio(0.005, warns=True)(expected, far)
    assert not Ratio(0.005)(expected, zero)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """All rules on the fallback: to make it is to see that each passes what the healthy path gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Bench(without_norm("fallback"), HOSTS["cpu"], [*RULES.values()])
    torch.set_num_threads(threads)


def test_the_healthy_path_passes_every_rule(bench: Bench) -> None:
    """In every launch: the fallback takes all of them."""
    assert {name: len(trials) for name, trials in bench.trials.items()} == {
        name: len(rule.trials) for name, rule in RULES.items()
    }


def test_a_rule_that_rejects_the_healthy_path_is_refused(bench: Bench) -> None:
    """Nothing would follow from it."""
    rule = RULES["vllm-cpu-decode"]
    strict = replace(rule, trials=tuple((setting, Judge(MaxAndMean(0.0, 0.0))) for setting, _ in rule.trials[:1]))
    with pytest.raises(ValueError, match="rejects the right result of fallback-o on cpu"):
        Bench(bench.path, bench.host, [strict])


ZERO_OUTPUT = {
    "fla-chunk": Fate.CAUGHT,
    "fla-recurrent": Fate.CAUGHT,
    "flashinfer-prefill": Fate.CAUGHT,
    "aiter-packed-decode": Fate.CAUGHT,
    "vllm-cutedsl-prefill": Fate.CAUGHT,
    "vllm-core-split": Fate.LET_THROUGH,
}


@pytest.mark.parametrize(("rule", "fate"), ZERO_OUTPUT.items())
def test_an_output_of_zeros(bench: Bench, rule: str, fate: Fate) -> None:
    """It passes where the tolerance is larger than the output: a fact of the numbers, measured."""
    assert bench.row(RULES[rule], "zero_output").fate is fate


def test_launches_of_one_rule_differ(bench: Bench) -> None:
    """AITER's sweep: outputs of 0.005 are below its tolerance, and one launch of larger inputs catches zeros."""
    row = bench.row(RULES["aiter-rearranged"], "zero_output")
    assert "D16 bfloat16, no norm" in row.caught_in
    assert not {"D60 float16", "D64 scale 0.1 float16"} & {*row.caught_in}


def test_what_a_test_does_not_exercise_is_not_reached(bench: Bench) -> None:
    """Zero initial states that are ignored, and equal q and k that change places, change no bit."""
    assert bench.row(RULES["fla-chunk"], "no_initial_state").fate is Fate.NOT_REACHED
    assert bench.row(RULES["vllm-cpu-decode"], "q_and_k_exchanged").fate is Fate.NOT_REACHED


@pytest.mark.parametrize(
    ("rule", "mutant"),
    [
        ("fla-chunk", "whole_slot_as_window"),
        ("fla-chunk", "negative_ids_raised_to_zero"),
        ("vllm-packed-decode", "anchor_in_the_middle"),
        ("vllm-cutedsl-prefill", "eps_on_the_mean"),
        ("fla-recurrent", "sum_not_carried"),
    ],
)
def test_what_a_test_does_not_run_is_not_applicable(rule: str, mutant: str) -> None:
    """Convs, slot tables, chunks and a norm that is not there."""
    assert peers.inapplicable(RULES[rule], mutant)


def test_mutants_of_the_recurrence_concern_every_rule() -> None:
    """They are planted in the fallback, which takes all launches."""
    assert not any(peers.inapplicable(rule, name) for rule in RULES.values() for name in coarse.COARSE)


@pytest.mark.parametrize("name", coarse.COARSE)
def test_every_coarse_defect_is_caught_by_some_rule(bench: Bench, name: str) -> None:
    """Each is planted as it says."""
    assert any(bench.row(RULES[rule], name).fate is Fate.CAUGHT for rule in ("aiter-packed-decode", "fla-recurrent"))


def test_measured_mutants_are_those_planted_in_paths() -> None:
    """Neither tables nor what outlives a launch, nor what a card alone runs."""
    known = peers.known()
    assert {"wrong_head_map", "tiled_heads", "zero_output", "sum_not_carried"} <= {*known}
    assert not {"narrow_ids", "count_of_another_row", "places_wait_for_a_stranger"} & {*known}
    assert peers.PARTS.keys() <= {*known}


@pytest.mark.parametrize(
    ("rule", "name", "scale"),
    [
        ("aiter-rearranged", "q", 0.05),
        ("aiter-packed-decode", "states", 0.02),
        ("flashinfer-decode", "states", 1.0),
        ("vllm-packed-decode", "v", 1.0),
        ("vllm-core-split", "states", 0.05),
        ("sglang-cpu-chunk", "states", 0.1),
    ],
)
def test_inputs_have_the_published_scale(rule: str, name: str, scale: float) -> None:
    """The standard deviation, within a tenth."""
    drawn = _drawn(RULES[rule].trials[0][0])[name].double()
    assert drawn.std() == pytest.approx(scale, rel=0.1)


def test_equal_sizes_are_one_tensor_in_vllms_cpu_test() -> None:
    """So q is k, and a is b."""
    drawn = _drawn(RULES["vllm-cpu-decode"].trials[0][0])
    assert torch.equal(drawn["q"], drawn["k"])
    assert torch.equal(drawn["a"], drawn["b"])


def _drawn(setting: Setting) -> dict[str, torch.Tensor]:
    tokens = setting.case.batches[0].tokens
    types = (TORCH[setting.activation], TORCH[setting.state])
    return setting.draw(Source(setting.geometry, tokens, setting.case.slots, *types))


def test_launches_are_of_the_types_they_say() -> None:
    """q, k and v in that of the activations."""
    for rule in RULES.values():
        setting, _ = rule.trials[0]
        assert _drawn(setting)["q"].dtype is TORCH[DType(setting.activation)]


@pytest.mark.slow
def test_kernels_are_measured_in_the_interpreter() -> None:
    """The healthy decode kernel passes, and a padded row that writes to slot 0 is seen where the pool is compared."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    found, absent = measure(peers.questions(["negative_ids_raised_to_zero"], ["vllm-packed-decode"]), workers=1)
    assert not absent
    assert [row.fate for row in found] == [Fate.CAUGHT]


@pytest.mark.slow
def test_every_healthy_kernel_passes_every_rule_of_its_kind() -> None:
    """In the interpreter: a rule that rejects one is an answer missing."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    mutants = ["sum_not_carried", "differences_of_zero_dropped", "padding_id_not_asked", "slot_in_32_bits"]
    found, absent = measure(peers.questions(mutants, RULES), workers=1)
    assert not absent
    assert len(found) == len(mutants) * len(RULES)


def test_the_command_writes_what_it_prints(tmp_path: File) -> None:
    """A line a rule, the names let through, and all of it as JSON."""
    file = tmp_path / "rules.json"
    options = ["rules", "--names", "vllm-core-split", "--mutants", "zero_output,zero_state", "--workers", "1"]
    result = CliRunner().invoke(app, [*options, "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "vllm-core-split, let through: zero_output" in result.output
    report = json.loads(file.read_text())
    assert report["rules"][0]["counts"] == {"caught": 1, "let through": 1, "not reached": 0, "not applicable": 0}
    assert {row["mutant"]: row["fate"] for row in report["rows"]} == {
        "zero_output": "let through",
        "zero_state": "caught",
    }


def test_an_unknown_rule_ends_the_command() -> None:
    """With the names of those that there are."""
    assert CliRunner().invoke(app, ["rules", "--names", "nobodys"]).exit_code == 2


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_page_tells_of_every_rule(rule: Rule) -> None:
    """Where it stands, what it feeds, how it compares and what is smaller here."""
    page = (File(__file__).parents[2] / "docs" / "peers.md").read_text(encoding="utf-8")
    row = f"| {rule.name} | {rule.reference} | {rule.inputs} | {rule.comparison} |"
    assert row in page
    assert f"| {rule.name} | {rule.reduced} |" in page
