"""Rounding declarations that several paths share: what an all-float32 kernel rounds, and a chunked one.

Factors count roundings in a row at one site, or the ulps by which a device's function may miss (exp and rsqrt of
CUDA's and numpy's float32 libraries: 2 ulp; CUDA C++ Programming Guide, mathematical functions appendix).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import sqrt

from gdn_verify.cases.contract import DType, DTypes
from gdn_verify.oracles.compose import Algorithm
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.sites import Site

_Sites = dict[Site, tuple[DType, float]]
F32 = DType.F32

CONV: _Sites = {Site.CONV_TAP: (F32, 1), Site.CONV_SUM: (F32, 1), Site.CONV_ACT: (F32, 2)}
GATES: _Sites = {
    Site.GATE_SUM: (F32, 1),
    Site.SOFTPLUS: (F32, 2),
    Site.GATE: (F32, 4),  # exp(A_log), log, the product, the store
    Site.BETA_SIGMOID: (F32, 2),
    Site.BETA: (F32, 1),
}
QK_NORM: _Sites = {Site.QK_SUM: (F32, 1), Site.QK_NORM: (F32, 4)}  # rsqrt 2, its product, the scale
SEQUENTIAL: _Sites = {
    Site.DECAY_EXPONENT: (F32, 1),
    Site.DECAY: (F32, 2),
    Site.STATE_DECAY: (F32, 1),
    Site.HK_DOT: (F32, 1),
    Site.U: (F32, 2),
    Site.STATE_UPDATE: (F32, 2),  # the product u·k̂ and the sum
    Site.Q_DOT: (F32, 1),
}
NORM: _Sites = {
    Site.NORM_SUM: (F32, 1),
    Site.NORM_SCALE: (F32, 2),
    Site.NORM_VALUE: (F32, 2),
    Site.NORM_GATE: (F32, 2),
}


def sequential_float32(
    dtypes: DTypes,
    *,
    conv_out: DType | None = None,
    o: DType | None = None,
    store: DType | None = None,
    serial: int = 1,
) -> Rounding:
    """A token-by-token kernel with float32 inside: only stored results are narrower.

    `conv_out` is the type of the conv's output and `o` that of the recurrence's, on their way to the next stage (by
    default the activations'), `store` that of the states given back (by default the pool's). `serial` is how many
    terms a thread sums one after the other over K: 1 for a tree, K for a loop. Equal terms then round alike within a
    binade, so the walk's amplitude grows from √Σs² to as much as Σ|s| ≤ √serial·√Σs² over the partial sums s
    (Cauchy-Schwarz).
    """
    sums = {site: (F32, sqrt(serial)) for site in (Site.QK_SUM, Site.HK_DOT, Site.Q_DOT)}
    narrow: _Sites = {
        Site.CONV_OUT: (conv_out or dtypes.activation, 1),
        Site.OUT: (o or dtypes.activation, 1),
        Site.STORE: (store or dtypes.state, 1),
        Site.NORM_OUT: (dtypes.activation, 1),
    }
    return declare({**CONV, **GATES, **QK_NORM, **SEQUENTIAL, **NORM, **sums, **narrow}, dtypes, store=store)


def declare(
    sites: _Sites,
    dtypes: DTypes,
    *,
    store: DType | None = None,
    algorithm: Algorithm = Algorithm.SEQUENTIAL,
    chunk: int = 64,
) -> Rounding:
    """A `Rounding` from a table of sites; results are stored as activations, states as `store` or the pool."""
    outputs = {
        "conv": dtypes.activation,
        "o": dtypes.activation,
        "out": dtypes.activation,
        "h": store or dtypes.state,
    }
    rows = tuple((site, dtype, float(factor)) for site, (dtype, factor) in sites.items())
    return Rounding(rows, tuple(outputs.items()), algorithm, chunk)


def overlaid(rounding: Rounding, *levels: Mapping[Site, tuple[DType, float]]) -> Rounding:
    """A rounding with these types and factors at their sites, the last named where several name one."""
    sites = {site: (dtype, factor) for site, dtype, factor in rounding.sites}
    for level in levels:
        sites |= level
    return replace(rounding, sites=tuple((site, dtype, float(factor)) for site, (dtype, factor) in sites.items()))


CHUNKED: _Sites = {
    Site.CUMGATE: (F32, 1),
    Site.DECAY_EXPONENT: (F32, 2),  # the difference G_i - G_j, and its scaling for exp2
    Site.GATE_EXP: (F32, 2),
    Site.KK_DOT: (F32, 1),
    Site.KK: (F32, 2),
    Site.INVERSE_DOT: (F32, 1),
    Site.INVERSE: (F32, 1),
    Site.BETA_V: (F32, 1),
    Site.BETA_K: (F32, 2),
    Site.U_DOT: (F32, 1),
    Site.U_CHUNK: (F32, 1),
    Site.W_DOT: (F32, 1),
    Site.W: (F32, 1),
    Site.WH_DOT: (F32, 1),
    Site.V_NEW: (F32, 1),
    Site.V_TAIL: (F32, 2),
    Site.KV_DOT: (F32, 1),
    Site.QH_DOT: (F32, 1),
    Site.QK_DOT: (F32, 1),
    Site.QK: (F32, 2),
    Site.PV_DOT: (F32, 1),
    Site.STATE_DECAY: (F32, 2),
    Site.STATE_UPDATE: (F32, 1),
}
TF32 = 2.0**14
"""Factor from float32's roundoff to the 2⁻¹⁰ that TF32 operands lose: 11 bits of significand, the rest cut off and not
rounded on sm_90 (golden vectors `dot_tf32_left`, `dot_tf32_right`)."""


def chunked_float32(
    dtypes: DTypes, *, chunk: int = 64, store: DType | None = None, solves: bool = False, serial: int = 1
) -> Rounding:
    """A chunked algorithm in float32 throughout; only results are narrower.

    `solves`: u and w come from triangular solves and not from products with the inverse. `serial`: how many terms the
    products over K sum one after the other, K for a BLAS (see `sequential_float32`).
    """
    narrow: _Sites = {Site.OUT: (dtypes.activation, 1), Site.STORE: (store or dtypes.state, 1)}
    narrow |= {site: (F32, sqrt(serial)) for site in (Site.KK_DOT, Site.WH_DOT, Site.QH_DOT, Site.QK_DOT)}
    if solves:
        narrow[Site.SOLVE_DOT] = (F32, 1)
    sites = {**QK_NORM, **CHUNKED, **narrow}
    return declare(sites, dtypes, store=store, algorithm=Algorithm.CHUNKED, chunk=chunk)


def chunked_tensor_core(
    dtypes: DTypes, *, chunk: int = 64, store: DType | None = None, tf32_inverse: bool = False
) -> Rounding:
    """A chunked kernel whose products take 16-bit operands and sum in float32.

    q̂, k̂, β·v, β·k·e^G, the inverse, w, u, v_new, the state's snapshot and the masked q·kᵀ are rounded to the
    activations' type. `tf32_inverse`: the triangular inverse is merged with TF32 products, as on sm_80 and later.
    """
    operands = (
        Site.QK_NORM, Site.BETA_V, Site.BETA_K, Site.INVERSE, Site.U_CHUNK, Site.W, Site.H_SNAPSHOT, Site.V_NEW,
        Site.V_TAIL, Site.QK, Site.OUT,
    )  # fmt: skip
    narrow: _Sites = dict.fromkeys(operands, (dtypes.activation, 1))
    narrow[Site.STORE] = (store or dtypes.state, 1)
    if tf32_inverse:
        narrow[Site.INVERSE_DOT] = (F32, TF32)
    sites = {**QK_NORM, **CHUNKED, **narrow}
    return declare(sites, dtypes, store=store, algorithm=Algorithm.CHUNKED, chunk=chunk)


FOLDED: _Sites = {
    Site.QK_SUM: (F32, 1),
    Site.LENGTH: (F32, 2.5),  # rsqrt 2, and the sum with eps, under a root
    Site.DECAY_EXPONENT: (F32, 1),  # a difference of float64 sums in units of log 2, cut to float32
    Site.GATE_EXP: (F32, 2),  # of each exp: decays from block to block have two
    Site.KK_DOT: (F32, 1),
    Site.KK: (F32, 5),  # 1/‖k_i‖ with β and with a decay, 1/‖k_j‖ with another, and k kᵀ with both
    Site.INVERSE_DOT: (F32, 1),
    Site.FOLDED_TAIL: (F32, 1),
    Site.OPERAND_K: (F32, 1),
    Site.FOLDED_W_DOT: (F32, 1),
    Site.HANDED_W: (F32, 1),
    Site.QK_DOT: (F32, 1),
    Site.QK: (F32, 4),  # likewise, without β and as one product of factors
    Site.FOLDED_B_DOT: (F32, 1),
    Site.HANDED_B: (F32, 2),  # β with the scale, and that with the sum
    Site.KH_DOT: (F32, 1),
    Site.KH: (F32, 2),  # 1/‖k‖ with e^G, and that with k hᵀ
    Site.QH_DOT: (F32, 1),
    Site.QH: (F32, 3),  # the scale too
    Site.FRESH: (F32, 1),
    Site.FRESH_O_DOT: (F32, 1),
    Site.STATE_DECAY: (F32, 1),
    Site.FRESH_H_DOT: (F32, 1),
}


def folded_chunks(
    dtypes: DTypes,
    *,
    chunk: int,
    exact: bool = False,
    serial: int = 1,
    truncates: bool = False,
    store: DType | None = None,
    segment: int = 0,
) -> Rounding:
    """A chunked kernel that folds each chunk before it knows the state, and sums its gates in float64.

    k and q, of the activations' type already, are multiplied with each other and with the state as they are given;
    their norms come out of such products too, and scale the others. All other operands are float16 until then, whatever
    the activations' type, and about 1 in size. What is handed on, the state's snapshot and v' are rounded to the
    activations' type. `exact`: operands in float32 throughout, and nothing is cut to TF32; `serial` of them are summed
    one after the other in products over K (see `sequential_float32`).
    `truncates`: sums of narrow operands are cut to float32, and not rounded, as tensor cores do.
    `segment`: rows are cut into segments of so many tokens, whose join sums in float32 over K; not `exact`, of operands
    that are two tf32 numbers each.
    """
    narrow: _Sites = {Site.OUT: (dtypes.activation, 1), Site.STORE: (store or dtypes.state, 1)}
    if exact:
        over_keys = (Site.QK_SUM, Site.KK_DOT, Site.QK_DOT, Site.KH_DOT, Site.QH_DOT)
        narrow |= dict.fromkeys(over_keys, (F32, sqrt(serial)))
    else:
        sums = (site for site in FOLDED if site.name.endswith(("_DOT", "_SUM")))
        narrow |= dict.fromkeys(sums, (F32, 2 if truncates else 1))
        folded = Site.OPERAND_K, Site.INVERSE_OPERAND, Site.FOLDED_X, Site.FOLDED_TAIL, Site.QK
        narrow |= dict.fromkeys(folded, (DType.F16, 1))
        handed = (Site.HANDED_W, Site.HANDED_B, Site.H_SNAPSHOT, Site.FRESH)
        narrow |= dict.fromkeys(handed, (dtypes.activation, 1))
    if segment:
        narrow[Site.JOIN_DOT] = F32, sqrt(serial) if exact else 8 if truncates else 1
    sites = {**FOLDED, **narrow}
    return replace(declare(sites, dtypes, store=store, algorithm=Algorithm.FOLDED, chunk=chunk), segment=segment)
