"""A path of this suite as an engine's core: its launch packed as it wants it, its result where the engine looks."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Stage
from gdn_verify.e2e.conv_seam import ConvSeam
from gdn_verify.e2e.oracle import Oracle
from gdn_verify.e2e.seam import SEAM, Call, Core, stock
from gdn_verify.e2e.variant import OWN, STOCK, Variant, path_of, planted
from gdn_verify.hosts import Host
from gdn_verify.paths.base import Launch, Outputs, Path

if TYPE_CHECKING:
    from torch import Tensor

TABLES = ("query_start_loc", "state_indices", "has_initial_state", "num_accepted_tokens", "spec_rows", "read_indices")
"""What a launch says of its rows."""
ROW_PAD = 16
"""Elements between two tokens of packed projections: dense ones would be served by no kernel of `dispatch-o`."""


class CoreUnavailableError(RuntimeError):
    """A variant cannot run in this process; the message says why."""


def core_of(wanted: Variant, host: Host, given: dict[str, Tensor] | None = None) -> Core:
    """The core that a variant names, ready to be called. Raises CoreUnavailableError.

    `given` is filled with the tables that each launch's path is handed, behind whatever a fault has made of them.
    """
    if wanted.core in OWN:
        return stock if wanted.core == STOCK else ConvSeam()
    path = path_of(wanted.core)
    name = host.name if host.name in path.hosts else path.hosts[0]
    if name != host.name:
        raise CoreUnavailableError(f"{path.name} runs on {', '.join(path.hosts)}, and this process is on {host.name}")
    if missing := path.missing(host.name):
        raise CoreUnavailableError(f"{path.name}: {missing}")
    path.load(host.name)
    if wanted.noise:
        return _noisy(wanted, host)
    core = _called(path if given is None else spied(path, given), wanted.fault, host)
    return core if wanted.only is None else _only(core, wanted)


def _only(core: Core, wanted: Variant) -> Core:
    """The core for one kind of launch; all others are the engine's own."""

    def sharing(call: Call) -> None:
        (stock if wanted.leaves(call.launch.batch.kind) else core)(call)

    return sharing


def _called(path: Path, fault: str, host: Host) -> Core:
    """The path; a fault is planted anew in each layer, as some remember slots and launches."""
    runs: dict[str, Callable[[Launch], Outputs]] = {}

    def core(call: Call) -> None:
        if (run := runs.get(call.name)) is None:
            run = runs[call.name] = planted(path, fault)
        launch = packed(call.launch) if path.capabilities.span.first is Stage.UNPACK else call.launch
        with host.launches() as launched:
            outputs = run(launch)
        if host.name != "cpu":  # where a path has no kernels, or is a stand-in for some
            SEAM.lacking.update(name for name in path.kernels if not any(name in other for other in launched))
        deliver(outputs, call.launch)

    return core


def spied(path: Path, given: dict[str, Tensor]) -> Path:
    """The path, telling what tables it is handed."""
    other = copy(path)

    def run(launch: Launch) -> Outputs:
        given.update({name: launch[name] for name in TABLES if launch.get(name) is not None})
        outputs = path.run(launch)
        other.kernels = path.kernels  # those of this launch
        return outputs

    other.run = run  # type: ignore[method-assign]
    return other


def deliver(outputs: Outputs, launch: Launch) -> None:
    """The result into the engine's own buffer, where the path has not put it there itself."""
    out = launch["out"]
    if outputs.o.data_ptr() != out.data_ptr():
        out.copy_(outputs.o.reshape(out.shape))


def packed(launch: Launch) -> Launch:
    """The launch from the edge of packed projections, with a z of ones, which no core without a norm uses."""
    import torch

    x, g = launch["mixed_qkv"], launch.geometry
    tokens, width = x.shape[0], g.D + g.HV * g.V
    qkvz = x.new_ones(tokens, width + ROW_PAD)[:, :width]
    qkvz[:, : g.D] = x
    ba = x.new_empty(tokens, 2 * g.HV + ROW_PAD)[:, : 2 * g.HV]
    ba.copy_(torch.cat([launch["b"], launch["a"]], dim=1))
    z_out = x.new_empty(tokens, g.HV, g.V)
    shown = replace(launch.presentation, row_pad=ROW_PAD)
    tensors = {**launch.tensors, "qkvz": qkvz, "ba": ba, "z_out": z_out}
    return replace(launch, presentation=shown, tensors=tensors)


def case_of(launch: Launch) -> Case:
    """The case that a launch in the engine is, as far as a path's rounding depends on one."""
    slots = launch["ssm_pool"].shape[0]
    return Case(launch.geometry, launch.dtypes, slots, (launch.batch,), options=launch.options)


def _noisy(wanted: Variant, host: Host) -> Core:
    """The oracle, perturbed as the path `wanted.sites` rounds; every launch draws noise of its own."""
    oracle = Oracle()
    whose = path_of(wanted.sites) if wanted.sites else oracle
    # As `packed` will hand it over: kernels of packed projections serve tokens that have room between them.
    pad = ROW_PAD if whose.capabilities.span.first is Stage.UNPACK else None
    launches = 0

    def core(call: Call) -> None:
        nonlocal launches
        launches += 1
        shown = call.launch.presentation if pad is None else replace(call.launch.presentation, row_pad=pad)
        rounding = whose.rounding(case_of(call.launch), shown, host.name)
        draw = rounding.draw(seed=1000 * wanted.noise + launches, runs=1, first=wanted.noise)
        deliver(oracle.perturbed(call.launch, draw), call.launch)

    return core
