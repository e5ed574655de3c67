"""A contender of another package, described before the package is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pkgutil import resolve_name
from typing import Any

from torch import Tensor

from gdn_verify.bench.contender import AnyInputs, Contender, Launch, Missing, PrefillInputs, Setting
from gdn_verify.cases.contract import DType, Span, Stage

WHOLE = Span(Stage.UNPACK, Stage.NORM)
RECURRENCE = Span(Stage.GATES, Stage.DELTA)
DELTA = Span(Stage.DELTA, Stage.DELTA)


@dataclass(frozen=True)
class Package:
    """Under which name a package is installed, and the line that does it."""

    distribution: str
    install: str


PACKAGES = {
    "fla": Package("fla-core", "pip install 'gdn-verify[fla]'"),
    "vllm": Package("vllm", "pip install vllm==0.33.0"),
    "aiter": Package("amd-aiter", "AITER_TRITON_ONLY=1 pip install git+https://github.com/ROCm/aiter"),
    "flashinfer": Package(
        "flashinfer-python", "pip install flashinfer-python==0.7.2.post1 'nvidia-cutlass-dsl[cu13]>=4.7'"
    ),
}
"""By the name that is imported."""


def takes_all(setting: Setting) -> str | None:
    """Refuses nothing."""
    return None


def one_token_a_row(setting: Setting) -> str | None:
    """Refuses drafts."""
    return None if setting.geometry.S == 1 else f"decodes one token a row, not S={setting.geometry.S}"


def float32_states(setting: Setting) -> str | None:
    """Refuses narrower states: final ones come back in float32 whatever the initial ones were."""
    return None if setting.state is DType.F32 else f"returns its states in float32, not in {setting.state}"


def dense_states(inputs: PrefillInputs) -> Tensor | None:
    """The rows' states as one tensor, gathered once; None for fresh rows.

    A server that keeps a pool would gather and scatter them in every launch.
    """
    return None if inputs.setting.fresh else inputs.pool[inputs.state_indices.long()]


@dataclass(frozen=True)
class Peer:
    """One way to call another package's kernels.

    `functions` are what it calls, as "package.module:name"; `prepare(inputs, *functions)` returns the launch. The rest
    is as in `Contender`.
    """

    name: str
    span: Span
    functions: tuple[str, ...]
    prepare: Callable[..., Launch]
    refuses: Callable[[Setting], str | None] = takes_all
    in_place: bool = True
    narrow_products: bool = False
    path: str = ""

    def contender(self) -> Contender | Missing:
        """Imports the functions: a contender, or why there is none and the line that would change it."""
        found: list[Callable[..., Any]] = []
        for function in self.functions:
            try:
                found.append(resolve_name(function))
            except Exception as error:  # a package built for another torch or driver raises anything
                package = _package(function)
                return Missing(self.name, _why(package, error), PACKAGES[package].install)
        return Contender(
            self.name,
            self._versions(),
            self.span,
            partial(_prepare, self.prepare, found),
            refuses=self.refuses,
            in_place=self.in_place,
            narrow_products=self.narrow_products,
            path=self.path,
        )

    def _versions(self) -> str:
        packages = dict.fromkeys(map(_package, self.functions))
        first, *others = [(package, _version(PACKAGES[package].distribution)) for package in packages]
        return " + ".join([first[1], *(f"{package} {number}" for package, number in others)])


def _prepare(prepare: Callable[..., Launch], functions: list[Callable[..., Any]], inputs: AnyInputs) -> Launch:
    return prepare(inputs, *functions)


def _package(function: str) -> str:
    """The name to import of "package.module:name"."""
    return function.partition(":")[0].partition(".")[0]


def _why(package: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"{package} is not installed"
    return f"{package} cannot be imported here: {type(error).__name__}: {error}"


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a source tree on the path
        return "unversioned"
