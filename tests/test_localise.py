"""The first wrong launch of a case is found, with its stage, its place and the defect that it is like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path as File

import pytest
from typer.testing import CliRunner

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, dumps, save
from gdn_verify.cases.contract import WRITE_BACK, DTypes, Geometry, Kind, Options
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import drawn_cases
from gdn_verify.cases.sizes import SMALL
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.cases.values import Fill, Gates, States, Values
from gdn_verify.cli import app
from gdn_verify.facts import measure
from gdn_verify.hosts import HOSTS
from gdn_verify.localise import localise
from gdn_verify.localise_command import Locating
from gdn_verify.located import Localised, Touched
from gdn_verify.mutants import planter_of
from gdn_verify.paths import find
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.service import planter

CPU = HOSTS["cpu"]
EXPOSED = {
    "slot_zero_is_nobodys": (Kind.DECODE, "conv", ""),
    "norm_of_the_mean": (Kind.DECODE, "gates", ""),
    "decay_in_low_precision": (Kind.DECODE, "gates", ""),
    "tiled_heads": (Kind.DECODE, "delta", "key heads tiled (j % H)"),
    "decay_forgotten": (Kind.DECODE, "delta", "no decay"),
    "resumed_prompts_lose_their_state": (Kind.PREFILL, "conv", ""),
    "draft_states_transposed": (Kind.SPEC, WRITE_BACK, ""),
    "single_tokens_reversed": (Kind.MIXED, "norm", ""),
}
"""Of the fallback, which exposes its stages: launches to plant a defect in, its stage, and what it is like."""
HIDDEN = {
    "decay_forgotten": (Kind.DECODE, "gates", "no decay"),
    "tiled_heads": (Kind.DECODE, "delta", "key heads tiled (j % H)"),
    "draft_states_transposed": (Kind.SPEC, WRITE_BACK, ""),
}
"""The same where a path gives its output and states alone."""


def drawn(path: Path, kind: Kind, count: int = 30) -> list[Fed]:
    strategy = cases(path.capabilities, path.conventions, kind, size=SMALL)
    return [fed for fed, _ in islice(drawn_cases(strategy, 7), count)]


def planted(name: str, hidden: bool) -> Callable[[Launch], Outputs]:
    path = find("fallback")
    run = planter(planter_of(name))(path)  # type: ignore[misc]
    return (lambda launch: replace(run(launch), stages={})) if hidden else run


def found(name: str, kind: Kind, hidden: bool) -> tuple[Fed, Localised]:
    path = find("fallback")
    for fed in drawn(path, kind):
        if seen := localise(*fed, path, CPU, planted(name, hidden)):
            return fed, seen
    raise AssertionError("no case shows it")


@pytest.mark.parametrize("name", EXPOSED)
def test_the_stage_is_the_first_exposed_one_that_is_wrong(name: str) -> None:
    """Judged from the edge seen before it; a defect that gives the same is named."""
    kind, stage, like = EXPOSED[name]
    _, seen = found(name, kind, hidden=False)
    assert seen.stage == stage
    assert like in [match.name for match in seen.matches] or not like


@pytest.mark.parametrize("name", HIDDEN)
def test_without_stages_the_defect_that_it_is_like_tells(name: str) -> None:
    """Outputs that are right, beside wrong states, are a matter of what is written back."""
    kind, stage, like = HIDDEN[name]
    _, seen = found(name, kind, hidden=True)
    assert seen.stage == stage
    assert [match.name for match in seen.matches][:1] == ([like] if like else [])


def test_an_output_scaled_after_the_norm_is_no_defect_of_the_recurrence() -> None:
    """Of rows that begin: their states are right whatever the delta term, and tell nothing of the output."""
    path = find("fallback")
    fresh = [fed for fed in drawn(path, Kind.PREFILL, 60) if all(row.fresh for row in fed[0].batches[0].rows)]
    (case, shown), *_ = [fed for fed in fresh if fed[0].batches[0].tokens == 1] or fresh

    def run(launch: Launch) -> Outputs:
        outputs = path.run(launch)
        outputs.o.mul_(1.5)
        return replace(outputs, stages={})

    seen = localise(case, shown, path, CPU, run)
    assert seen is not None
    assert (seen.stage, seen.matches) == ("", ())
    factor, words = seen.looks[0].split(" ", 1)
    assert (abs(float(factor) - 1.5) < 0.02, words) == (True, "times what is right")


def test_a_state_that_a_defect_explains_is_not_a_matter_of_writing_it_back() -> None:
    """Though outputs are right: z of zeros lets nothing through."""
    path = find("fallback")
    case, shown = next(fed for fed in drawn(path, Kind.DECODE, 30) if fed[0].dtypes.state.value == "float32")
    values = replace(case.values, z=Fill.ZEROS, gates=Gates.NORMAL, state=States.NORMAL)
    dark = replace(case, values=values, options=Options())
    seen = localise(dark, shown, path, CPU, planted("decay_forgotten", hidden=True))
    assert seen is not None
    assert seen.result == "h"
    assert (seen.stage, seen.matches[0].name) == ("gates", "no decay")


def test_a_case_that_the_path_refuses_is_not_localised(tmp_path: File) -> None:
    """Slot 0 marks padding there: its row is nobody's, and nothing is wrong with it."""
    case = Case(Geometry(1, 2, 8, 8), DTypes(), 1, (Batch((Row(3, (0,)),)),))
    save(tmp_path / "case.json", CaseFile(case, Presentation()))
    for command in ("localise", "repro"):
        words = [command, str(tmp_path / "case.json"), "--path", "prefill-null", "--host", "interpreter"]
        refused = CliRunner().invoke(app, words)
        assert (refused.exit_code, "does not take this case" in refused.output) == (2, True), refused.output


def test_a_right_launch_has_nothing_to_localise() -> None:
    """Not with stages, not without."""
    path = find("fallback")
    for fed in drawn(path, Kind.MIXED, 10):
        assert localise(*fed, path, CPU) is None


def test_a_defect_in_one_head_from_a_token_on_is_confined_to_it() -> None:
    """Of a result that is wrong there alone."""
    whole = find("fallback")
    large = [f for f in drawn(whole, Kind.PREFILL, 200) if f[0].batches[0].tokens > 12 and f[0].geometry.HV > 2]

    def run(launch: Launch) -> Outputs:
        outputs = whole.run(launch)
        outputs.o[5:, 1] *= -1.0
        return replace(outputs, stages={})

    seen = next(found for fed in large if (found := localise(*fed, whole, CPU, run)))  # in some, that head is zero
    assert "value head 1" in [str(place) for place in seen.place]
    assert "the sign reversed" in seen.looks


@pytest.mark.parametrize(
    ("name", "kind", "stage"),
    [
        ("window_per_token", Kind.SPEC, "conv"),
        ("history_replaced_by_zeros", Kind.DECODE, "conv"),
        ("z_of_a_power_of_two", Kind.DECODE, "unpack"),
        ("filling_moves_the_state", Kind.PREFILL, WRITE_BACK),
    ],
)
def test_right_values_beside_wrong_memory_are_told(name: str, kind: Kind, stage: str) -> None:
    """A copy is the conv's or the unpacking's; where both states are wrong, and no output, it is the write-back."""
    run, path = planted(name, hidden=False), find("fallback")
    seen = [where for fed in drawn(path, kind) if (where := localise(*fed, path, CPU, run)) is not None]
    assert stage in [where.stage for where in seen]
    if stage != WRITE_BACK:  # where a state is a wrong value too
        assert any(isinstance(where, Touched) for where in seen)


def test_a_copy_is_wrong_before_what_is_computed() -> None:
    """A window that is cleared makes wrong outputs of the next launch; the window comes first."""
    run, path = planted("cleared_again_in_verify", hidden=False), find("fallback")
    case = Case(
        Geometry(1, 1, 1, 1, W=3), DTypes(), 1,
        (Batch((Row(1, (0,), fresh=True),)), Batch((Row(1, (0,), accepted=1),))),
    )  # fmt: skip
    seen = localise(case, Presentation(), path, CPU, run)
    assert seen is not None
    assert (seen.launch, seen.stage) == (1, "conv")


@pytest.mark.parametrize("name", ["upper_half_of_b_not_stored", "decay_as_two_exponentials"])
def test_kernels_are_localised_in_the_interpreter(name: str) -> None:
    """By an access that is watched, of right values; and a state that is not finite was computed so."""
    pytest.importorskip("triton")
    values = Values(gates=Gates.SPIKE) if name == "decay_as_two_exponentials" else Values()
    case = Case(Geometry(1, 1, 1, 1, W=2), DTypes(), 1, (Batch((Row(1, (0,)),)),), values=values)
    file = dumps(CaseFile(case, Presentation()))
    (seen,), absent = measure([Locating("chunk-delta", "interpreter", file, planter_of(name))])
    assert not absent
    assert not isinstance(seen, str)
    assert seen.stage == "delta"


def test_the_command_tells_and_draws(tmp_path: File) -> None:
    """Stage, place, likeness and a map; a picture where one is asked for."""
    fed, _ = found("tiled_heads", Kind.DECODE, hidden=False)
    save(tmp_path / "case.json", CaseFile(*fed))
    words = ["localise", str(tmp_path / "case.json"), "--path", "fallback"]
    told = CliRunner().invoke(app, [*words, "--plant", "tiled_heads", "--plot", str(tmp_path / "map.svg")])
    assert told.exit_code == 0, told.output
    assert "stage: delta" in told.output
    assert "matches the oracle with key heads tiled (j % H), to" in told.output
    assert (tmp_path / "map.svg").stat().st_size
    healthy = CliRunner().invoke(app, words)
    assert (healthy.exit_code, "nothing to localise" in healthy.output) == (0, True)


def test_a_builder_is_refused(tmp_path: File) -> None:
    """Its findings name the entry that is wrong."""
    save(tmp_path / "case.json", CaseFile(*drawn(find("fallback"), Kind.DECODE, 1)[0]))
    refused = CliRunner().invoke(app, ["localise", str(tmp_path / "case.json"), "--path", "tables"])
    assert refused.exit_code == 2
