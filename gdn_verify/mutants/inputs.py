"""A path whose delta stage is given other inputs: what defects of arithmetic are made of, here and in engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from unittest.mock import patch

from torch import Tensor

from gdn_verify.cases.contract import Stage
from gdn_verify.paths.base import Launch, Outputs, Path

Run = Callable[[Launch], Outputs]
Inputs = dict[str, Tensor]
Alter = Callable[[Inputs, Launch], Mapping[str, Tensor]]


def altered(path: Path, alter: Alter) -> Run:
    """The path with its delta stage's inputs (q, k, g, beta) changed."""
    if path.capabilities.span.first is Stage.DELTA:
        return lambda launch: path.run(replace(launch, tensors=_with(launch.tensors, alter, launch)))
    return lambda launch: _inside_fallback(path, alter, launch)


def _with(tensors: Mapping[str, Tensor], alter: Alter, launch: Launch) -> dict[str, Tensor]:
    inputs = {name: tensors[name] for name in ("q", "k", "g", "beta")}
    return {**tensors, **alter(inputs, launch)}


def _inside_fallback(path: Path, alter: Alter, launch: Launch) -> Outputs:
    from gdn_verify.kernels import fallback

    right_gates, right_norm = fallback.gates, fallback.qk_norm

    def gates(*args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        g, beta = right_gates(*args, **kwargs)  # type: ignore[arg-type]
        changed = {"g": g, "beta": beta, **alter({"g": g, "beta": beta}, launch)}
        return changed["g"], changed["beta"]

    def qk_norm(*args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        q, k = right_norm(*args, **kwargs)  # type: ignore[arg-type]
        changed = {"q": q, "k": k, **alter({"q": q, "k": k}, launch)}
        return changed["q"], changed["k"]

    with patch.object(fallback, "gates", gates), patch.object(fallback, "qk_norm", qk_norm):
        return path.run(launch)


def changed(inputs: Inputs, **changes: Callable[[Tensor], Tensor]) -> Inputs:
    """Those of q, k, g and beta that change, each by its own function."""
    return {name: changes[name](value) for name, value in inputs.items() if name in changes}
