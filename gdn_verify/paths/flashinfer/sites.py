"""What the kernels round: float32 inside with the card's fast functions, or chunks of narrow operands.

Bounds are those of the PTX ISA 8.7 for `.approx.ftz.f32`: ex2 2⁻²²·⁵ relative, lg2 2⁻²² absolute about 1 and relative
elsewhere, rsqrt 2⁻²²·⁹; CuTe DSL's `fastmath=True` lowers to these. A unit here is float32's roundoff, 2⁻²⁴.
"""

from __future__ import annotations

from gdn_verify.cases.contract import DType, DTypes
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import TF32, chunked_tensor_core, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site

F32 = DType.F32
FAST: dict[Site, tuple[DType, float]] = {
    Site.SOFTPLUS: (F32, 4),  # 1 + e^x, and lg2 about 1
    Site.GATE: (F32, 16),  # exp(A_log) with its argument, lg2 and ex2 as factors, the product
    Site.BETA_SIGMOID: (F32, 4),
    Site.DECAY_EXPONENT: (F32, 2),  # as scaled by a rounded log2(e)
    Site.DECAY: (F32, 3),
    Site.QK_NORM: (F32, 5),  # rsqrt 2.2, the scale, its product, the element's
}
GATE_ROUNDINGS = 5.0
"""Of one token's α: exp of g on the way in (2), and lg2 of α (4 in log2's unit, times ln 2)."""
CHUNK = 64


def recurrent(dtypes: DTypes, *, serial: int, store: DType | None = None) -> Rounding:
    """A token at a time, float32 in registers; `serial` terms of a sum over K are a thread's own."""
    return overlaid(sequential_float32(dtypes, serial=serial, store=store), FAST)


def chunked(dtypes: DTypes, *, normalises: bool, joins: bool = False) -> Rounding:
    """The chunked kernel (gdn_kernels/delta_rule_dsl/delta_rule_sm90.py), lines of which stand here by themselves.

    β k kᵀ and its inverse are float16 whatever the activations are (:158, :278); the inverse with β is of the
    activations' type again (:300), as are the state as an operand (:868, :890), k hᵀ, v less it (:919) and what comes
    of it (:946, :457), and the masked q kᵀ (:378). There are no w and u. `joins`: chunks of a row are joined by
    products of TF32 operands (delta_rule_cp_sm90.py:1977).
    """
    narrow = dtypes.activation
    gates = (F32, GATE_ROUNDINGS * CHUNK)  # as much in every token where all gates are alike
    sites: dict[Site, tuple[DType, float]] = {
        Site.QK_NORM: (narrow if normalises else F32, 1),
        Site.KK: (DType.F16, 1),
        Site.INVERSE_DOT: (DType.F16, 1),
        Site.INVERSE: (narrow, 2),
        Site.BETA_V: (narrow, 2),  # v - k hᵀ, and β in the inverse
        Site.BETA_K: (narrow, 3),  # k hᵀ too
        Site.U_CHUNK: (F32, 1),
        Site.W: (F32, 1),
        Site.V_TAIL: (narrow, 2),
        Site.DECAY_EXPONENT: (F32, 2),
        Site.GATE_EXP: gates,
    }
    if joins:
        sites[Site.STATE_DECAY] = F32, TF32
    return overlaid(chunked_tensor_core(dtypes, chunk=CHUNK), sites)
