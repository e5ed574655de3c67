"""Single defects planted in a copy of any path, by changing what goes in or comes out. No source file is touched.

Each function takes a path and returns a defective `run`. Defects of arithmetic change the delta stage's inputs: the
launch's own tensors where a path starts there, and the fallback's intermediate results where it starts earlier.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from gdn_verify.cases.contract import Stage
from gdn_verify.paths.base import Launch, Outputs, Path

Run = Callable[[Launch], Outputs]
Inputs = dict[str, Tensor]
Alter = Callable[[Inputs, Launch], Mapping[str, Tensor]]

CHUNK = 64
FORGET = -200.0
"""A log decay that leaves nothing of a state."""


def _altered(path: Path, alter: Alter) -> Run:
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


def _change(inputs: Inputs, **changes: Callable[[Tensor], Tensor]) -> Inputs:
    return {name: changes[name](value) for name, value in inputs.items() if name in changes}


def _next_head(x: Tensor) -> Tensor:
    return x.roll(1, dims=1)


def wrong_head_map(path: Path) -> Run:
    """Value head j reads the key head after its own."""
    return _altered(path, lambda inputs, _: _change(inputs, q=_next_head, k=_next_head))


def dropped_decay(path: Path) -> Run:
    """The state never decays."""
    return _altered(path, lambda inputs, _: _change(inputs, g=torch.zeros_like))


def beta_in_bfloat16(path: Path) -> Run:
    """β passes through bfloat16 on its way."""
    return _altered(path, lambda inputs, _: _change(inputs, beta=lambda b: b.bfloat16().to(b.dtype)))


def beta_times_0_999(path: Path) -> Run:
    """β is 0.1 % too small."""
    return _altered(path, lambda inputs, _: _change(inputs, beta=lambda b: (b.float() * 0.999).to(b.dtype)))


def state_ignored_on_second_chunk(path: Path) -> Run:
    """From its 64th token on, a row has forgotten all that came before."""

    def forget(inputs: Inputs, launch: Launch) -> Inputs:
        def cut(g: Tensor) -> Tensor:
            g = g.clone()
            starts = launch.batch.query_start_loc
            for n, row in enumerate(launch.batch.rows):
                g[starts[n] + CHUNK : starts[n] + row.tokens : CHUNK] = FORGET
            return g

        return _change(inputs, g=cut)

    return _altered(path, forget)


def neighbour_slot(path: Path) -> Run:
    """The first row's state goes to the slot after its own, or to the next row."""

    def run(launch: Launch) -> Outputs:
        pool = launch.get("ssm_pool")
        before = None if pool is None else pool.clone()
        outputs = path.run(launch)
        if outputs.final_state is not None:
            return replace(outputs, final_state=outputs.final_state.roll(1, dims=0))
        slot = next((row.written[0] for row in launch.batch.rows if row.written), None)
        if pool is not None and before is not None and slot is not None and len(pool) > 1:
            slot = launch.presentation.physical(slot)
            neighbour = slot + 1 if slot + 1 < len(pool) else slot - 1
            pool[neighbour] = pool[slot]
            pool[slot] = before[slot]
        return outputs

    return run


def unwritten_element(path: Path) -> Run:
    """One element of the output of the first live token is never stored."""

    def run(launch: Launch) -> Outputs:
        before = launch["out"].clone()
        outputs = path.run(launch)
        start = next(
            (s for s, row in zip(launch.batch.query_start_loc, launch.batch.rows, strict=False) if row.live), None
        )
        if start is not None:
            launch["out"][start, -1, -1] = before[start, -1, -1]
        return outputs

    return run


def byte_past_the_end(path: Path) -> Run:
    """One byte after the output is overwritten. Memory of the processor only."""

    def run(launch: Launch) -> Outputs:
        outputs = path.run(launch)
        out = launch["out"]
        if out.numel() and out.device.type == "cpu":
            ctypes.memset(out.data_ptr() + out.numel() * out.element_size(), 0, 1)
        return outputs

    return run


_TYPE_OF: dict[tuple[int, int], torch.dtype] = {}
"""The 16-bit type that keys came in first, by heads: of the process, as a compiler's cache is."""


def dtype_of_the_first_launch(path: Path) -> Run:
    """Code compiled for one 16-bit type serves the other too: the key of its cache lacks the type of the operands."""

    def run(launch: Launch) -> Outputs:
        name = "k" if "k" in launch.tensors else "qkvz"
        x = launch[name]
        if x.element_size() != 2:
            return path.run(launch)
        known = _TYPE_OF.setdefault((launch.geometry.H, launch.geometry.HV), x.dtype)
        return path.run(replace(launch, tensors={**launch.tensors, name: x.view(known).to(x.dtype)}))

    return run
