"""Which stage a finding of memory belongs to: by the tensor that it names, or by there being one stage alone."""

from __future__ import annotations

from collections.abc import Iterable

from gdn_verify.cases.contract import WRITE_BACK, Span, Stage

OF = {
    Stage.GATES: ("a", "b", "ba", "A_log", "dt_bias"),
    Stage.DELTA: ("q", "k", "v", "g", "beta", "pool", "ssm_pool", "initial_state"),
    Stage.NORM: ("norm_weight",),
}
"""Tensors that a stage alone reads, by the contract's names and those of this project's kernels."""
COPIES = (Stage.UNPACK, Stage.CONV)
"""Stages whose results are copied, and so known to the bit."""


def stage_of(kind: str, span: Span) -> str:
    """The stage that a finding of this kind ("copy of z", "race, write after read: pool") belongs to; "" if unknown."""
    _, accessed, argument = kind.rpartition(": ")
    name = argument.split()[-1]
    if "conv" in kind:
        return str(Stage.CONV) if Stage.CONV in span else ""
    if name in ("z", "z_out"):
        return str(Stage.UNPACK) if Stage.UNPACK in span else ""
    if name == "out":
        return str(span.last)
    if not accessed:
        return WRITE_BACK if "ssm_pool" in kind or "state" in kind else ""
    alone = [stage for stage in span if stage is not Stage.UNPACK]
    if len(alone) == 1:
        return str(alone[0])
    return next((str(stage) for stage, names in OF.items() if name in names and stage in span), "")


def first_copy(kinds: Iterable[str], span: Span) -> str:
    """The first stage whose copies are found wrong; "" if none is."""
    told = {stage_of(kind, span) for kind in kinds}
    return next((str(stage) for stage in COPIES if str(stage) in told), "")
