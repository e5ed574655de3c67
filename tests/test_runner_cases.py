"""One case on one path: what `run_case` makes of right, wrong, silent and raising paths. All of them run on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry
from gdn_verify.cases.presentation import Poison, Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.emulator.access import Access, Fault
from gdn_verify.emulator.stretch import FAR
from gdn_verify.hosts import HOSTS, Host
from gdn_verify.paths import find
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.paths.fallback import Fallback
from gdn_verify.runner import CaseResult, run_case, run_laws
from gdn_verify.verdict import Check, Outcome

NORMAL = Values(
    4, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.NORMAL, Betas.NORMAL, States.NORMAL, Taps.NORMAL, Fill.NORMAL
)
GEOMETRY = Geometry(H=2, HV=4, K=8, V=6, num_spec=1)
CHAIN = (
    Batch((Row(5, (0,), fresh=True), Row(1, (3,)))),
    Batch((Row(2, (0, 1), accepted=1), Row(1, (None,)))),
    Batch((Row(1, (0, 1), accepted=2),)),
)
Run = Callable[[Launch], Outputs]


def case(*batches: Batch, slots: int = 5) -> Case:
    return Case(GEOMETRY, DTypes(), slots, batches or CHAIN, NORMAL)


def run(
    asked: Case | None = None,
    path: Path | None = None,
    change: Callable[[Outputs, Launch], Outputs | None] | None = None,
) -> CaseResult:
    """The case on the fallback, what it returns (and has written) altered by `change`."""

    def plant(path: Path) -> Run:
        def altered(launch: Launch) -> Outputs:
            outputs = path.run(launch)
            return (change(outputs, launch) if change else None) or outputs

        return altered

    return run_case(asked or case(), Presentation(), path or Fallback(), HOSTS["cpu"], plant=plant)


def test_a_stage_that_is_promised_and_not_shown_is_found() -> None:
    """Less would be judged, and nobody would know."""
    lost = run(change=lambda outputs, launch: Outputs(o=outputs.o, stages={"conv": outputs.stages["conv"]}))
    assert {finding.kind for finding in lost.findings} == {"unshown stages"}
    assert "beta, g, k_hat, o, q_hat not shown" in lost.findings[0].message


def loaded(name: str) -> Path:
    path = find(name)
    if missing := path.missing("cpu"):
        pytest.skip(str(missing))
    path.load("cpu")
    return path


def dense() -> tuple[Case, Path]:
    batch = Batch((Row(3, (0,)), Row(4, (1,))))
    return Case(Geometry(2, 4, 8, 6), DTypes(), 2, (batch,), NORMAL), loaded("transformers-recurrent")


def kinds(result: CaseResult) -> list[str]:
    return [finding.kind for finding in result.findings]


def test_a_right_path_agrees_in_every_launch():
    """Three launches on the same slots, each judged and each with its power and projections."""
    result = run()
    assert result.findings == []
    assert len(result.powers) == len(result.projections) == 3
    assert 0.0 < result.worst_ratio < 3.0
    assert {result.outcome(check) for check in (Check.VALUES, Check.MEMORY)} == {Outcome.AGREES}


def test_a_launch_is_judged_from_the_bytes_that_it_found():
    """A state that is wrong after the first launch is that launch's fault, and what follows is not judged."""

    def spoil(outputs: Outputs, launch: Launch) -> None:
        launch["ssm_pool"][3] += 1.0

    result = run(change=spoil)
    assert kinds(result) == ["h", "stage delta: h"]
    assert len(result.powers) == 1
    assert result.outcome(Check.VALUES) is Outcome.DISAGREES
    assert result.outcome(Check.MEMORY) is Outcome.AGREES


def test_a_wrong_later_launch_is_found():
    """The first two agree."""
    launched = []

    def spoil(outputs: Outputs, launch: Launch) -> None:
        launched.append(launch)
        if len(launched) == 3:
            launch["out"].neg_()

    result = run(change=spoil)
    assert result.outcome(Check.VALUES) is Outcome.DISAGREES
    assert len(launched) == 3


@pytest.mark.parametrize(
    ("stage", "expected"), [("conv", "conv"), ("g", "gates"), ("beta", "gates"), ("q_hat", "gates"), ("o", "delta")]
)
def test_a_stage_is_judged_by_itself(stage, expected):
    """An exposed intermediate that is a little off is named, though the result is right."""

    def spoil(outputs: Outputs, launch: Launch) -> Outputs:
        return replace(outputs, stages={**outputs.stages, stage: outputs.stages[stage] * 1.001})

    assert f"stage {expected}: {stage}" in kinds(run(change=spoil))


def without_state(outputs: Outputs, launch: Launch) -> Outputs:
    return replace(outputs, final_state=None)


def one_state_for_all(outputs: Outputs, launch: Launch) -> Outputs:
    assert outputs.final_state is not None
    return replace(outputs, final_state=outputs.final_state[:1])


def one_head_for_all(outputs: Outputs, launch: Launch) -> Outputs:
    return replace(outputs, o=outputs.o[:, :1])


def a_token_too_few(outputs: Outputs, launch: Launch) -> Outputs:
    return replace(outputs, o=outputs.o[:-1])


def unknown_stage(outputs: Outputs, launch: Launch) -> Outputs:
    return replace(outputs, stages={"u": outputs.o})


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (without_state, "final_state is missing"),
        (one_state_for_all, "final_state has a wrong shape"),
        (one_head_for_all, "result has a wrong shape"),
        (a_token_too_few, "result has a wrong shape"),
        (unknown_stage, "u has a wrong shape"),
    ],
)
def test_what_a_path_owes_it_must_give(change, kind):
    """A state that is kept back, or a tensor of another shape, is a finding; nothing is broadcast or left out."""
    asked, path = dense()
    result = run_dense(asked, path, change)
    assert kinds(result) == [kind]
    assert result.outcome(Check.VALUES) is Outcome.DISAGREES


def run_dense(asked: Case, path: Path, change: Callable[[Outputs, Launch], Outputs] | None = None) -> CaseResult:
    from gdn_verify.cases.contract import StateOrder

    def plant(path: Path) -> Run:
        return lambda launch: change(path.run(launch), launch) if change else path.run(launch)

    return run_case(asked, Presentation(state_order=StateOrder.KV), path, HOSTS["cpu"], plant=plant)


def test_a_dense_path_that_gives_all_agrees():
    """The same launch without a change."""
    assert kinds(run_dense(*dense())) == []


def test_what_a_path_raises_is_a_finding():
    """With its type and its words; a case that it declares to take must run."""

    def fail(outputs: Outputs, launch: Launch) -> None:
        raise ZeroDivisionError("no such grid")

    (finding,) = run(change=fail).findings
    assert finding.kind == "raised ZeroDivisionError"
    assert finding.message.startswith("no such grid\n")
    assert finding.check is Check.VALUES


def test_a_case_that_a_path_does_not_take_is_refused():
    """With the reason, and without a launch."""

    def fail(outputs: Outputs, launch: Launch) -> None:
        raise AssertionError

    asked, path = dense()
    result = run(replace(asked, batches=(Batch((Row(0, (0,)), Row(1, (1,)))),)), path, fail)
    assert result.refused
    assert {result.outcome(check) for check in (Check.VALUES, Check.MEMORY)} == {Outcome.REFUSED}


def test_a_launch_without_live_rows_is_vacuous_for_values_only():
    """Nothing is computed, but memory is still watched."""
    empty = case(Batch((Row(0, (0,)), Row(1, (None,)))))
    result = run(empty)
    assert (result.outcome(Check.VALUES), result.outcome(Check.MEMORY)) == (Outcome.VACUOUS, Outcome.AGREES)

    def spoil(outputs: Outputs, launch: Launch) -> None:
        launch["conv_pool"][0, 0, 0] = 5.0

    assert kinds(run(empty, change=spoil)) == ["changed conv_pool"]


def test_an_unwritten_element_is_found_under_any_poison():
    """Also under one that looks like a result, by the second launch."""

    def plant(path: Path) -> Run:
        def forgetful(launch: Launch) -> Outputs:
            kept = launch["out"][2, 1, 3].clone()
            outputs = path.run(launch)
            launch["out"][2, 1, 3] = kept
            return outputs

        return forgetful

    for poison in Poison:
        result = run_case(case(), Presentation(poison=poison), Fallback(), HOSTS["cpu"], plant=plant)
        assert "unwritten out" in kinds(result)
        assert result.outcome(Check.MEMORY) is Outcome.DISAGREES


@dataclass(frozen=True)
class Spy:
    """A host that launches on the CPU, and claims kernels of these names."""

    kernels: tuple[str, ...]
    name: str = "cuda"
    device: str = "cpu"

    def launches(self):
        return contextlib.nullcontext([*self.kernels])

    def kind_of(self, tensor):
        return self.device

    def synchronize(self) -> None:
        """Nothing to wait for."""


class Compiled(Fallback):
    """The fallback, declared to launch a kernel."""

    kernels = ("delta_kernel",)


@pytest.mark.parametrize(
    ("launched", "found"), [((), True), (("other",), True), (("void delta_kernel_64", "other"), False)]
)
def test_a_path_that_ran_other_kernels_is_never_green(launched, found):
    """Right results from elsewhere attest nothing."""
    result = run_case(case(), Presentation(), Compiled(), Spy(launched))  # type: ignore[arg-type]
    assert ("attestation" in kinds(result)) == found


class Alone(Compiled):
    """Declared to launch another at times, and none besides."""

    besides = ("zero_kernel",)


@pytest.mark.parametrize(
    ("launched", "found"),
    [(("delta_kernel",), False), (("delta_kernel", "zero_kernel"), False), (("delta_kernel", "other"), True)],
)
def test_kernels_that_run_for_nobody_are_found(launched, found):
    """Where a path says what may run besides: work for no row leaves every result as it is."""
    result = run_case(case(), Presentation(), Alone(), Spy(launched))  # type: ignore[arg-type]
    assert ("attestation" in kinds(result)) == found


def test_the_launch_is_announced_and_its_end():
    """Around the path's own code alone."""
    words: list[bool] = []
    run_case(case(), Presentation(), Fallback(), HOSTS["cpu"], launching=words.append)
    assert words == [True, False] * 3


def test_inputs_do_not_leak_between_runs():
    """The same case twice gives the same verdict and ratio."""
    first, second = run(), run()
    assert first.worst_ratio == second.worst_ratio
    assert first.powers == second.powers


class Watched(Host):
    """The processor, with a checker that has seen one thing in each launch."""

    def memory_checker(self):
        class Seen:
            def findings(self):
                return [Access(Fault.HAZARD, "kernel", "file.py:3", "conv_pool", (0,), (2,), (0, 0, 0))]

            def unwritten(self, name, tensor, wanted):
                return None

        return lambda known: contextlib.nullcontext(Seen())


@pytest.mark.parametrize("watch", [False, True])
def test_what_a_watch_sees_is_a_finding_about_memory(watch):
    """Where one is asked for: the launch's strided pools are far apart then, and torch is right all the same."""
    strides = []

    def plant(path: Path) -> Run:
        return lambda launch: strides.append(launch["ssm_pool"].stride(0)) or path.run(launch)

    fed = Presentation(slot_pad=4)
    result = run_case(case(), fed, Fallback(), Watched("cpu", "cpu"), plant=plant, watch=watch)
    assert kinds(result) == (["missing barrier: conv_pool"] if watch else [])
    assert result.outcome(Check.VALUES) is Outcome.AGREES
    assert (strides[0] == FAR) == watch


def test_what_a_watch_saw_explains_why_a_path_raised():
    """It is told beside what was raised."""

    def plant(path: Path) -> Run:
        def broken(launch: Launch) -> Outputs:
            raise RuntimeError("wild pointer")

        return broken

    result = run_case(case(), Presentation(), Fallback(), Watched("cpu", "cpu"), plant=plant, watch=True)
    assert kinds(result) == ["raised RuntimeError", "missing barrier: conv_pool"]


class Faulty(Spy):
    """A device that the first launch loses: every wait raises from then on."""

    def synchronize(self) -> None:
        """What CUDA says after an access beyond memory, to whoever asks next."""
        raise RuntimeError("an illegal memory access was encountered")


def test_a_law_that_loses_the_device_is_the_only_one_accused():
    """The others are not asked in a process without a device, and the worker is known to be of no more use."""
    result = run_laws(case(), Presentation(), Fallback(), Faulty(()), ("packing", "rows", "scale"))  # type: ignore[arg-type]
    assert kinds(result) == ["packing: raised RuntimeError"]
    assert result.raised
    assert {name: law.reason for name, law in result.laws.items() if name != "packing"} == {
        "rows": "packing lost the device",
        "scale": "packing lost the device",
    }


def test_a_law_under_which_a_path_raises_leaves_the_others_to_be_asked():
    """The device is as good as before."""

    class Raising(Fallback):
        def run(self, launch):
            if launch.options.scale != case().options.scale:
                raise ValueError("another scale")
            return super().run(launch)

    result = run_laws(case(), Presentation(), Raising(), Spy(()), ("scale", "rows"))  # type: ignore[arg-type]
    assert result.laws["scale"].raised
    assert result.laws["rows"].outcome is Outcome.AGREES
