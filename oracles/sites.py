"""The rounding sites of a Gated DeltaNet layer: every place where a kernel may round.

A path declares (u, eta) for its sites; the oracles perturb exactly there. u is the unit roundoff of the
type that the kernel rounds to at this place (a little more where it does so several times in a row), eta
that type's smallest normal number. A site at (0, 0) is exact.
"""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np


class Site(IntEnum):
    """Row of a `sites` array. Unless noted, the site replaces x by x (1 + u eps) + eta eps'.

    Names ending in _DOT and _SUM are accumulations: one draw per sum, of amplitude
    u sqrt(Σ product² + Σ partial sum²), a random walk over the steps of the sum.
    """

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count  # auto() from 0, so that a member is an index

    # conv
    CONV_TAP = auto()
    """Each product weight · x, where products are taken in a narrow type."""
    CONV_SUM = auto()
    """Accumulation over the bias and the taps; the products round at CONV_TAP."""
    CONV_ACT = auto()
    """Inside SiLU: the argument of exp (relative, as scaled for exp2) and the sigmoid."""
    CONV_OUT = auto()
    """Output y, stored in the activation type."""

    # gates
    GATE_SUM = auto()
    """a + dt_bias."""
    SOFTPLUS = auto()
    """The sum 1 + exp(x) of softplus, hence about u *absolute* on softplus; silent above the threshold."""
    GATE = auto()
    """g = -exp(A_log) softplus: the product, exp(A_log), and the type g is stored in."""
    BETA_SIGMOID = auto()
    """Inside sigmoid(b): the argument of exp (relative) and the sigmoid."""
    BETA = auto()
    """β, in the type it is stored in."""

    # q and k norm
    QK_SUM = auto()
    """Accumulation of Σq² and Σk²."""
    QK_NORM = auto()
    """Elements of q̂ and k̂; without a norm only q · scale, and nothing where the factor is 1."""

    # delta rule, both algorithms
    DECAY_EXPONENT = auto()
    """Argument x of a decay's exp, g or G_i - G_j, as a difference and as scaled for exp2: |x| u absolute."""
    STATE_DECAY = auto()
    """Every element of h · decay, per token or per chunk."""
    STATE_UPDATE = auto()
    """Every element of h + u k̂ᵀ, per token or per chunk."""
    OUT = auto()
    """Output o, stored in the activation type."""
    STORE = auto()
    """State written to the pool: the final one, or every token's. What follows reads the unrounded one."""

    # delta rule, token by token
    DECAY = auto()
    """exp(g)."""
    SNAPSHOT = auto()
    """h rounded to a narrow type as an operand of h k̂ and, drawn anew, of h q̂."""
    HK_DOT = auto()
    """Accumulation of h k̂."""
    U = auto()
    """u = β (v - h k̂), after subtraction and product."""
    Q_DOT = auto()
    """Accumulation of h q̂."""

    # delta rule, in chunks
    CUMGATE = auto()
    """Cumulative gate G: each partial sum, handed on to the next, and G_i again as an exponent (|G| u absolute)."""
    GATE_EXP = auto()
    """exp(G_i - G_j) below the diagonal, exp(G_i) and exp(G_last - G_i)."""
    KK_DOT = auto()
    """Accumulation of k̂ k̂ᵀ."""
    KK = auto()
    """A = β k̂ k̂ᵀ exp(G_i - G_j), in the type it is stored in."""
    INVERSE_DOT = auto()
    """Accumulation inside the triangular inverse; later rows are computed from the perturbed ones."""
    INVERSE = auto()
    """Entries of the inverse below its unit diagonal, rounded once it is complete."""
    SOLVE_DOT = auto()
    """Accumulation of Σ A_ij u_j and Σ A_ij w_j where u and w come from a triangular solve instead of the inverse:
    with alike keys its partial sums are far larger than those of a product with the inverse. It replaces INVERSE_DOT,
    INVERSE, U_DOT and W_DOT."""
    BETA_V = auto()
    """Operand β v."""
    BETA_K = auto()
    """Operand β k̂ exp(G)."""
    U_DOT = auto()
    """Accumulation of u = T (β v)."""
    U_CHUNK = auto()
    """u, in the type it is stored in."""
    W_DOT = auto()
    """Accumulation of w = T (β k̂ exp(G))."""
    W = auto()
    """w, in the type it is stored in."""
    H_SNAPSHOT = auto()
    """The state at the chunk's start, rounded as an operand of w hᵀ and q̂ hᵀ."""
    WH_DOT = auto()
    """Accumulation of w hᵀ."""
    V_NEW = auto()
    """v_new = u - w hᵀ as an operand of the output; the state reads the unrounded one."""
    V_TAIL = auto()
    """v_new exp(G_last - G), the operand of the state's update."""
    KV_DOT = auto()
    """Accumulation of v_newᵀ k̂ into the state."""
    QH_DOT = auto()
    """Accumulation of q̂ hᵀ."""
    QK_DOT = auto()
    """Accumulation of q̂ k̂ᵀ."""
    QK = auto()
    """Masked q̂ k̂ᵀ exp(G_i - G_j) as an operand."""
    PV_DOT = auto()
    """Accumulation of (masked q̂ k̂ᵀ) v_new."""

    # gated norm
    NORM_SUM = auto()
    """Accumulation of Σo²."""
    NORM_SCALE = auto()
    """rsqrt(mean(o²) + eps)."""
    NORM_VALUE = auto()
    """o · rsqrt · weight before the gate."""
    NORM_GATE = auto()
    """Inside act(z): the argument of exp (relative) and the sigmoid."""
    NORM_OUT = auto()
    """Output, stored in the activation type."""

    # delta rule, in chunks that are folded before the state is known (`_folded`); last, as a draw depends on the
    # number of its site. Shared with the other form: CUMGATE, DECAY_EXPONENT, GATE_EXP, KK_DOT, KK, INVERSE_DOT,
    # QK_DOT, QK, H_SNAPSHOT, QH_DOT, STATE_DECAY, OUT and STORE. LENGTH has the number of a site that nobody has now.
    LENGTH = auto()
    """‖q‖ and ‖k‖, one number a vector, where products of q and k as they are given are scaled by their inverses; then
    there are no elements of q̂ and k̂ to round at QK_NORM."""
    OPERAND_K = auto()
    """k̂ as an operand of W, the only product that meets it: k kᵀ, q kᵀ and k hᵀ are of k as it is given."""
    INVERSE_OPERAND = auto()
    """Operands of the products that double the inverse's blocks: T₂₂, T₁₁ (not their unit diagonals), A₂₁ and
    T₂₂ A₂₁."""
    FOLDED_X = auto()
    """T as an operand of B, but for its unit diagonal."""
    FOLDED_TAIL = auto()
    """diag(e^{G_last-G}) T, the operand of W, but for its last element, 1."""
    FOLDED_W_DOT = auto()
    """Accumulation of (diag(e^{G_last-G}) T)ᵀ k̂."""
    HANDED_W = auto()
    """W = diag(β) times that, as a product and in the type it is handed on in."""
    FOLDED_B_DOT = auto()
    """Accumulation of (masked q̂ k̂ᵀ) T, without the scale of q."""
    HANDED_B = auto()
    """B, that with the factors scale and β_j, in the type it is handed on in."""
    KH_DOT = auto()
    """Accumulation of k̂ hᵀ."""
    KH = auto()
    """e^G k̂ hᵀ: the product of k hᵀ with a token's factor, and that factor, 1 / ‖k‖ in it."""
    QH = auto()
    """e^G q̂ hᵀ likewise, with the scale in its factor."""
    FRESH = auto()
    """v' = v - e^G k̂ hᵀ as an operand; where e^G k̂ hᵀ is 0 it is a copy of v."""
    FRESH_O_DOT = auto()
    """Accumulation of B v' upon e^G q̂ hᵀ."""
    FRESH_H_DOT = auto()
    """Accumulation of Wᵀ v' upon e^{G_last} h."""
    JOIN_DOT = auto()
    """Accumulation of M h upon h_s, where a row is cut into segments that are joined; all other sites draw anew for M
    and h_s."""


def quiet_sites() -> np.ndarray:
    """A `sites` array, float64 [len(Site), 2] of (u, eta), that perturbs nothing."""
    return np.zeros((len(Site), 2))
