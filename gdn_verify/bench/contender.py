"""What is benched: an implementation of some stages of one layer, and the tensors that it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.contract import ConvLayout, DType, Geometry, Span, StateOrder, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Setting:
    """One point of the measurement: what is timed at the same time and compared with each other.

    A decode has `rows` N rows of `geometry.S` tokens each (1 unless drafts are verified). A prefill has rows of
    `lengths` tokens; with `fresh` they have no state yet. T is the sum; `state` is the ssm pool's dtype. Activations,
    conv state and weights are bfloat16, A_log, dt_bias and gates float32.
    """

    geometry: Geometry
    rows: int
    state: DType
    lengths: tuple[int, ...] = ()
    fresh: bool = False

    def __post_init__(self) -> None:
        require(self.rows >= 1, "setting.rows", self.rows, "is at least 1")
        require(
            len(self.lengths) in (0, self.rows), "setting.lengths", self.lengths, f"has {self.rows} numbers or none"
        )
        require(all(n >= 1 for n in self.lengths), "setting.lengths", self.lengths, "has at least 1 token a row")

    @classmethod
    def prefill(cls, geometry: Geometry, lengths: Sequence[int], state: DType, fresh: bool = False) -> Setting:
        """Rows of these lengths."""
        require(len(lengths) >= 1, "setting.lengths", lengths, "has at least one row")
        return cls(geometry, len(lengths), state, tuple(lengths), fresh)

    @property
    def tokens(self) -> int:
        """T, the tokens of the launch."""
        return sum(self.lengths) or self.rows * self.geometry.S

    @property
    def states_read(self) -> int:
        """States that a launch reads: one a row, unless the rows have none."""
        return 0 if self.fresh else self.rows

    @property
    def states_written(self) -> int:
        """States that a launch writes: one a row of a prefill, one a token of a decode."""
        return self.rows if self.lengths else self.tokens

    @property
    def label(self) -> str:
        """The rows in a word: "16" of a decode; "4x8192", "17+64+2000" or, of many, "32x17…2000" of a prefill."""
        if not self.lengths:
            return str(self.rows)
        runs = [(length, len(list(group))) for length, group in groupby(self.lengths)]
        if len(runs) > _MOST_TERMS:
            return f"{self.rows}x{min(self.lengths)}…{max(self.lengths)}"
        alike = len(runs) == 1
        return "+".join(f"{count}x{length}" if alike or count > 1 else str(length) for length, count in runs)

    def __str__(self) -> str:
        rows = self.label if self.lengths else f"N={self.rows}"
        return f"{rows}, {self.state} state{', fresh' if self.fresh else ''}"


_MOST_TERMS = 4
"""Lengths that a label spells out."""


@dataclass(frozen=True)
class Inputs:
    """The tensors of one layer's decode, on one device.

    The left edge of every span is here, so all contenders get one problem.

    `qkvz` [T, D + HV·V] is packed [q | k | v | z], `ba` [T, 2·HV] packed [b | a]; `mixed_qkv` [T, D], `z` [T, HV, V],
    `b`, `a` [T, HV] are views of them, so their row strides are the packed ones. `conv_out` [T, D] is q | k | v as the
    conv left them, contiguous; `g` (log decay), `beta` [T, HV] float32 are the gates.

    `conv_pool` [P, D, C] and `pool` [P, HV, V, K] or [P, HV, K, V] are laid out as the contender declares.
    `state_indices` [N] int32 is a random draw of slots without slot 0, which some take for padding; there are no padded
    rows. Where S > 1 it is [N, S] and `num_accepted_tokens` [N] int32 is given. `query_start_loc` [N+1] int32.

    `conv_weight` [D, W], `norm_weight` [V] in the activations' dtype, `A_log`, `dt_bias` [HV] float32, no conv bias.
    `out` [T, HV, V] is contiguous and holds NaN. A contender may write to `out`, `pool` and `conv_pool` only.
    """

    setting: Setting
    qkvz: Tensor
    ba: Tensor
    conv_out: Tensor
    g: Tensor
    beta: Tensor
    conv_pool: Tensor
    conv_weight: Tensor
    A_log: Tensor
    dt_bias: Tensor
    pool: Tensor
    state_indices: Tensor
    query_start_loc: Tensor
    norm_weight: Tensor
    out: Tensor
    num_accepted_tokens: Tensor | None = None
    norm_eps: float = 1e-6
    conv_bias: None = None

    @property
    def geometry(self) -> Geometry:
        """H, HV, K, V, W and the spec width."""
        return self.setting.geometry

    @property
    def mixed_qkv(self) -> Tensor:
        """q | k | v before the conv, [T, D], a view of `qkvz`."""
        return self.qkvz[:, : self.geometry.D]

    @property
    def z(self) -> Tensor:
        """The norm's gate, [T, HV, V], a view of `qkvz`."""
        return self.qkvz[:, self.geometry.D :].unflatten(1, (self.geometry.HV, self.geometry.V))

    @property
    def b(self) -> Tensor:
        """The input of β, [T, HV], a view of `ba`."""
        return self.ba[:, : self.geometry.HV]

    @property
    def a(self) -> Tensor:
        """The input of the decay, [T, HV], a view of `ba`."""
        return self.ba[:, self.geometry.HV :]

    @property
    def q(self) -> Tensor:
        """q as the conv left it, neither normalised nor scaled, [T, H, K], a view of `conv_out`."""
        g = self.geometry
        return self.conv_out[:, : g.H * g.K].unflatten(1, (g.H, g.K))

    @property
    def k(self) -> Tensor:
        """k as the conv left it, not normalised, [T, H, K], a view of `conv_out`."""
        g = self.geometry
        return self.conv_out[:, g.H * g.K : 2 * g.H * g.K].unflatten(1, (g.H, g.K))

    @property
    def v(self) -> Tensor:
        """v as the conv left it, [T, HV, V], a view of `conv_out`."""
        g = self.geometry
        return self.conv_out[:, 2 * g.H * g.K :].unflatten(1, (g.HV, g.V))


@dataclass(frozen=True)
class PrefillInputs:
    """The tensors of one layer's chunked prefill, on one device, as a conv and the gates leave them.

    `q`, `k` [T, H, K], not normalised, and `v` [T, HV, V], each contiguous; `g` (log decay), `beta` [T, HV] float32.
    `pool` [P, HV, V, K] or [P, HV, K, V] as the contender declares; `state_indices` [N] int32, a random draw of slots
    without slot 0; `query_start_loc` [N+1] int32, one tensor for all layers of a stack, as a server has one for a
    batch. `has_initial_state` [N] bool is given for fresh rows alone. `out` [T, HV, V] is contiguous and holds NaN. A
    contender may write to `out` and `pool` only.
    """

    setting: Setting
    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    beta: Tensor
    pool: Tensor
    state_indices: Tensor
    query_start_loc: Tensor
    out: Tensor
    has_initial_state: Tensor | None = None

    @property
    def geometry(self) -> Geometry:
        """H, HV, K and V."""
        return self.setting.geometry


AnyInputs = Inputs | PrefillInputs


@dataclass(frozen=True)
class Results:
    """Where one launch left its results: `out` [T, HV, V], the span's last stage, in any strides.

    `states` [N, HV, V, K] or [N, HV, K, V], in the order of the rows and the declared state order, is for an
    implementation that returns new states; None says that the pool was updated in place.
    """

    out: Tensor
    states: Tensor | None = None


Launch = Callable[[], Results]
"""Launches one layer on torch's current stream: no synchronisation, no memory read back; it is captured in a graph."""


def _takes_all(setting: Setting) -> str | None:
    return None


@dataclass(frozen=True)
class Contender:
    """One implementation of `span` (unpack…norm is a whole decode, gates…delta the recurrence) for one layer.

    `prepare(inputs)` takes the inputs of what is measured, a decode or a prefill; it may do once what a server does
    once (flatten weights, allocate scratch) and returns the launch. `refuses(setting)` says why a setting is not taken,
    or None. `in_place` is False where `Results.states` are given: such a contender holds a copy of the states for each
    layer. `narrow_products`: its conv rounds each product weight · x to the activations' dtype, as a kernel does that
    multiplies what it has loaded as it is. `path` names the registered path of the same kernels, if there is one, so
    that the noise budget judges them too.
    """

    name: str
    version: str
    span: Span
    prepare: Callable[[Any], Launch]
    refuses: Callable[[Setting], str | None] = _takes_all
    state_order: StateOrder = StateOrder.VK
    conv_layout: ConvLayout = ConvLayout.D_CONTIGUOUS
    in_place: bool = True
    narrow_products: bool = False
    path: str = ""


@dataclass(frozen=True)
class Missing:
    """A contender that cannot run here: why, and the command that would change it ("" if none does)."""

    name: str
    reason: str
    install: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason} ({self.install})" if self.install else f"{self.name}: {self.reason}"
