"""What a path declares is held to its words before anything runs: the message names the field that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, ContractError, Conventions, Group, IdRule, PadPolicy, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths import Launch, Missing, Outputs, Path, registered
from gdn_verify.paths import conformance as conform
from gdn_verify.paths.conformance import declarations, early_imports, results

DELTA = Span(Stage.DELTA, Stage.DELTA)
DENSE = Capabilities(DELTA, groups=frozenset({Group.DECODE}), pool=False, paddings=frozenset())
POOLED = Capabilities(DELTA)


class Good(Path):
    """A path whose declarations are all right."""

    name = "good"
    hosts: tuple[str, ...] = ("cpu",)
    capabilities = DENSE

    def missing(self, host: str) -> Missing | None:
        return None

    def load(self, host: str) -> str:
        return "1.0"

    def run(self, launch: Launch) -> Outputs:
        return Outputs(o=launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes)


def _without(result: str) -> Callable[[Case, Presentation, str], Rounding]:
    def rounding(case: Case, presentation: Presentation, host: str) -> Rounding:
        right = sequential_float32(case.dtypes)
        return replace(right, outputs=tuple(pair for pair in right.outputs if pair[0] != result))

    return rounding


def _pads(*rules: tuple[Stage, IdRule]) -> dict[str, Any]:
    return {"capabilities": POOLED, "conventions": Conventions(pads=rules)}


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """These paths are registered nowhere, so no worker can look at what they import."""
    monkeypatch.setattr(conform, "early_imports", lambda path: ())


def _path(**declared: Any) -> Path:
    path = Good()
    for name, value in declared.items():
        setattr(path, name, value)
    return path


def test_right_declarations_are_taken() -> None:
    """The path that the others are wrong copies of."""
    declarations(Good())


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        ({"name": ""}, "path.name"),
        ({"name": "two words"}, "path.name"),
        ({"name": "a,b"}, "path.name"),
        ({"hosts": ()}, "path.hosts"),
        ({"hosts": "cpu"}, "path.hosts"),
        ({"hosts": ("cpu", "abacus")}, "path.hosts"),
        ({"hosts": ("cpu", "cpu")}, "path.hosts"),
        ({"hosts": ("interpreter",)}, "path.kernels"),
        ({"kernels": "a_kernel"}, "path.kernels"),
        ({"kernels": ("",)}, "path.kernels"),
        ({"least_reach": 30.0}, "path.least_reach"),
        ({"capabilities": None}, "path.capabilities"),
        ({"capabilities": replace(DENSE, groups=frozenset())}, "capabilities.groups"),
        ({"capabilities": replace(DENSE, groups={Group.DECODE})}, "capabilities.groups"),
        ({"capabilities": replace(DENSE, ratios=frozenset({5}))}, "capabilities.ratios"),
        ({"capabilities": replace(DENSE, states=frozenset({"float8"}))}, "capabilities.states"),
        ({"capabilities": replace(DENSE, beta_scales=frozenset())}, "capabilities.beta_scales"),
        ({"capabilities": replace(DENSE, max_spec=9)}, "capabilities.max_spec"),
        ({"capabilities": replace(DENSE, min_tokens=8, max_tokens=4)}, "capabilities.max_tokens"),
        ({"conventions": None}, "path.conventions"),
        ({"conventions": Conventions(scratch_slot=-1)}, "conventions.scratch_slot"),
        ({"conventions": Conventions(pad_outputs=(("z_out", PadPolicy.ZEROS),))}, "conventions.pad_outputs"),
        ({"conventions": Conventions(pad_outputs=(("out", "zeros"),))}, "conventions.pad_outputs"),
        ({"conventions": Conventions(pad_outputs=(("out", PadPolicy.COPIES),))}, "conventions.pad_outputs"),
        (_pads(), "conventions.pads"),
        (_pads((Stage.CONV, IdRule.NEGATIVE)), "conventions.pads"),
        (_pads((Stage.DELTA, IdRule.MINUS_ONE), (Stage.DELTA, IdRule.ZERO)), "conventions.pads"),
        ({"missing": lambda host: "not here"}, "path.missing"),
        ({"rounding": lambda case, shown, host: None}, "path.rounding"),
        ({"rounding": _without("o")}, "rounding.outputs"),
        ({"rounding": _without("h")}, "rounding.outputs"),
        ({"rounding": lambda case, shown, host: replace(sequential_float32(case.dtypes), sites=())}, "rounding.sites"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(declared: dict[str, Any], field: str) -> None:
    """One field is wrong, and the error says which."""
    with pytest.raises(ContractError, match=rf"^{field}="):
        declarations(_path(**declared))


def test_an_early_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing paths must not cost a user the import of torch."""
    monkeypatch.setattr(conform, "early_imports", lambda path: ("torch",))
    with pytest.raises(ContractError, match=r"path\.load=\('torch',\)"):
        declarations(Good())


@pytest.mark.parametrize("name", registered())
def test_every_registered_path_declares_itself_rightly(name: str) -> None:
    """This project's own paths, on all their hosts, whether those are here or not."""
    declarations(registered()[name])


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (Span(Stage.UNPACK, Stage.NORM), ("out", "h")),
        (DELTA, ("o", "h")),
        (Span(Stage.NORM, Stage.NORM), ("out",)),
    ],
)
def test_results_of_a_span(span: Span, expected: tuple[str, ...]) -> None:
    """The last stage's output, and states where the recurrence is among the stages."""
    assert results(span) == expected


def test_early_imports_are_seen_in_a_process_of_their_own() -> None:
    """This process has torch long since; a path that imports nothing early is not blamed for it."""
    pytest.importorskip("torch")
    assert early_imports(registered()["fla-chunk"]) == ()
