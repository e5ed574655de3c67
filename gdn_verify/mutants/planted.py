"""Single defects planted in a copy of any path, by changing what goes in or comes out. No source file is touched.

Each function takes a path and returns a defective `run`. Defects of arithmetic change the delta stage's inputs: the
launch's own tensors where a path starts there, and the fallback's intermediate results where it starts earlier.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace

import torch
from torch import Tensor

from gdn_verify.mutants.inputs import Inputs, Run, altered, changed
from gdn_verify.paths.base import Launch, Outputs, Path

CHUNK = 64
FORGET = -200.0
"""A log decay that leaves nothing of a state."""


def _next_head(x: Tensor) -> Tensor:
    return x.roll(1, dims=1)


def wrong_head_map(path: Path) -> Run:
    """Value head j reads the key head after its own."""
    return altered(path, lambda inputs, _: changed(inputs, q=_next_head, k=_next_head))


def dropped_decay(path: Path) -> Run:
    """The state never decays."""
    return altered(path, lambda inputs, _: changed(inputs, g=torch.zeros_like))


def beta_in_bfloat16(path: Path) -> Run:
    """β passes through bfloat16 on its way."""
    return altered(path, lambda inputs, _: changed(inputs, beta=lambda b: b.bfloat16().to(b.dtype)))


def beta_times_0_999(path: Path) -> Run:
    """β is 0.1 % too small."""
    return altered(path, lambda inputs, _: changed(inputs, beta=lambda b: (b.float() * 0.999).to(b.dtype)))


def state_ignored_on_second_chunk(path: Path) -> Run:
    """From its 64th token on, a row has forgotten all that came before."""

    def forget(inputs: Inputs, launch: Launch) -> Inputs:
        def cut(g: Tensor) -> Tensor:
            g = g.clone()
            starts = launch.batch.query_start_loc
            for n, row in enumerate(launch.batch.rows):
                g[starts[n] + CHUNK : starts[n] + row.tokens : CHUNK] = FORGET
            return g

        return changed(inputs, g=cut)

    return altered(path, forget)


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
