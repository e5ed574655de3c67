"""The words of the contract as small frozen types: stages, spans, geometry, dtypes, conventions.

Every name means what a Gated DeltaNet layer core means by it; an adapter translates for a project that
uses the word otherwise. Nothing here knows torch: a type that holds no tensor can be read from a file,
compared and hashed anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gdn_verify.cases.padding import IdRule, IllegalIds, Padding, PadPolicy


class ContractError(ValueError):
    """A case, presentation or declaration that the contract rules out; the message names the field."""


def require(ok: bool, name: str, value: Any, must: str) -> None:
    """Refuse `value` of field `name` with one sentence, unless `ok`."""
    if not ok:
        raise ContractError(f"{name}={value!r}: {must}")


class Stage(StrEnum):
    """The five stages of a layer core, in the order a token meets them."""

    UNPACK = "unpack"
    CONV = "conv"
    GATES = "gates"
    DELTA = "delta"
    NORM = "norm"

    @property
    def order(self) -> int:
        """Position in the layer, 0 for unpack to 4 for norm."""
        return list(Stage).index(self)


WRITE_BACK = "write-back"  # where a launch goes wrong whose outputs are right and whose states are not


@dataclass(frozen=True)
class Span:
    """The contiguous stages a path implements: `first` … `last`, both included.

    The tensors at the left edge of `first` are the path's inputs. At the delta edge q and k arrive as the
    conv left them unless `qk_normalised`; then they are unit vectors and the path does no norm of its own.
    """

    first: Stage
    last: Stage
    qk_normalised: bool = False

    def __post_init__(self) -> None:
        require(self.first.order <= self.last.order, "span.last", self.last, f"comes before {self.first}")
        if self.qk_normalised:
            require(self.first is Stage.DELTA, "span.qk_normalised", True, "only at the delta edge")

    def __contains__(self, stage: Stage) -> bool:
        return self.first.order <= stage.order <= self.last.order

    def __iter__(self) -> Iterator[Stage]:
        return (stage for stage in Stage if stage in self)

    def __str__(self) -> str:
        return str(self.first) if self.first is self.last else f"{self.first}…{self.last}"


class Kind(StrEnum):
    """Label of a launch, derived from its rows."""

    DECODE = "decode"
    PREFILL = "prefill"
    SPEC = "spec"
    MIXED = "mixed"


class DType(StrEnum):
    """A storage type, with the two numbers the noise budget needs."""

    F32 = "float32"
    BF16 = "bfloat16"
    F16 = "float16"

    @property
    def unit_roundoff(self) -> float:
        """Half the distance from 1 to the next number: 2⁻ᵖ for p bits of significand (24, 8, 11)."""
        return {DType.F32: 2.0**-24, DType.BF16: 2.0**-8, DType.F16: 2.0**-11}[self]

    @property
    def underflow(self) -> float:
        """The largest absolute error of storing a tiny number.

        float32 and bfloat16 denormals may be flushed to zero, so it is their smallest normal; GPUs keep those of
        float16, so it is half the spacing there.
        """
        return {DType.F32: 2.0**-126, DType.BF16: 2.0**-126, DType.F16: 2.0**-25}[self]

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return {
            DType.F32: 2.0**128 * (1 - 2.0**-24),
            DType.BF16: 2.0**128 * (1 - 2.0**-8),
            DType.F16: 65504.0,
        }[self]

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return 4 if self is DType.F32 else 2


class StateOrder(StrEnum):
    """Which of a slot's two axes is contiguous: VK is [HV, V, K], KV is [HV, K, V]."""

    VK = "VK"
    KV = "KV"


class Packing(StrEnum):
    """How qkvz and ba are packed: whole blocks over all heads, or per key head."""

    FLAT = "flat"
    INTERLEAVED = "interleaved"


class ConvLayout(StrEnum):
    """Which axis of a conv slot [D, C] is contiguous."""

    C_CONTIGUOUS = "DC"
    D_CONTIGUOUS = "CD"


RATIOS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Geometry:
    """Sizes of one layer core: H key heads, HV value heads, K, V head dimensions, conv width W, num_spec."""

    H: int
    HV: int
    K: int
    V: int
    W: int = 4
    num_spec: int = 0

    def __post_init__(self) -> None:
        for name in ("H", "HV", "K", "V"):
            value = getattr(self, name)
            positive = isinstance(value, int) and value >= 1
            require(positive, f"geometry.{name}", value, "is an integer of at least 1")
        require(self.K <= 256, "geometry.K", self.K, "is at most 256")
        require(self.V <= 256, "geometry.V", self.V, "is at most 256")
        require(2 <= self.W <= 8, "geometry.W", self.W, "a conv width lies in 2…8")
        require(0 <= self.num_spec <= 7, "geometry.num_spec", self.num_spec, "lies in 0…7")
        require(
            self.HV % self.H == 0 and self.ratio in RATIOS,
            "geometry.HV",
            self.HV,
            f"is H={self.H} times one of {RATIOS}",
        )

    @property
    def ratio(self) -> int:
        """Value heads per key head (GVA ratio r)."""
        return self.HV // self.H

    @property
    def D(self) -> int:
        """Conv channels, flat q|k|v over all heads."""
        return 2 * self.H * self.K + self.HV * self.V

    @property
    def C(self) -> int:
        """Columns of a conv slot."""
        return self.W - 1 + self.num_spec

    @property
    def S(self) -> int:
        """Spec width: most tokens a spec row carries."""
        return 1 + self.num_spec


@dataclass(frozen=True)
class DTypes:
    """Storage types: activations (q, k, v, z, a, b, o), pools, gates (g, β), `params` (A_log, dt_bias, which engines
    keep in float32) and `weights` (conv_weight, conv_bias, norm_weight)."""

    activation: DType = DType.F32
    state: DType = DType.F32
    conv_state: DType = DType.F32
    gates: DType = DType.F32
    params: DType = DType.F32
    weights: DType = DType.F32


class Activation(StrEnum):
    """Nonlinearity of the conv or of the gated norm."""

    NONE = "none"
    SILU = "silu"
    SIGMOID = "sigmoid"


QK_EPSILONS = (1e-6, 1e-5)


@dataclass(frozen=True)
class Options:
    """Scalars of the equations: scale of q (None: K^-½), activations, eps of the norm, factor of β.

    `qk_eps` is added to Σq² and Σk²: 1e-6 in the models, another where a path declares that it computes with another.
    """

    scale: float | None = None
    conv_activation: Activation = Activation.SILU
    conv_bias: bool = False
    norm_activation: Activation = Activation.SILU
    norm_eps: float = 1e-6
    beta_scale: float = 1.0
    qk_eps: float = 1e-6

    def __post_init__(self) -> None:
        finite = self.scale is None or (isinstance(self.scale, (int, float)) and abs(self.scale) < 1e30)
        require(finite, "options.scale", self.scale, "is None or a finite number")
        require(
            self.conv_activation is not Activation.SIGMOID,
            "options.conv_activation",
            "sigmoid",
            "none or silu",
        )
        require(self.norm_activation is not Activation.NONE, "options.norm_activation", "none", "silu or sigmoid")
        require(0 < self.norm_eps < 1, "options.norm_eps", self.norm_eps, "lies in (0, 1)")
        require(self.beta_scale in (1.0, 2.0), "options.beta_scale", self.beta_scale, "is 1 or 2")
        require(self.qk_eps in QK_EPSILONS, "options.qk_eps", self.qk_eps, f"is one of {QK_EPSILONS}")

    def q_scale(self, geometry: Geometry) -> float:
        """The factor of q̂: as given, or K^-½."""
        return geometry.K**-0.5 if self.scale is None else self.scale


@dataclass(frozen=True)
class Conventions:
    """How a path reads the parts of the contract that projects settle differently.

    `pads` gives, per stage, the ids that mark a padded row; only ids on which all stages agree are ever
    generated. `pad_outputs` gives, per output or shown stage, what a padded row's part of it holds afterwards.
    `batch_invariant` promises that no other row changes a bit of a row's results, `deterministic` that the same launch
    gives the same bits; the laws ask for both, and `gdn-verify invariance` for the first. No check asks for
    `illegal_ids` yet.
    """

    pads: tuple[tuple[Stage, IdRule], ...] = ()
    illegal_ids: IllegalIds = IllegalIds.UNDEFINED
    pad_outputs: tuple[tuple[str, PadPolicy], ...] = ()
    scratch_slot: int | None = None
    batch_invariant: bool = False
    deterministic: bool = True

    def pad_ids(self, slots: int) -> tuple[int, ...]:
        """The ids among -1, 0, `slots`, -7 and `slots` + 5 that every stage takes for padding."""
        rules = [rule for _, rule in self.pads]
        candidates = (-1, 0, slots, -7, slots + 5)
        return tuple(i for i in candidates if rules and all(rule.marks(i, slots) for rule in rules))

    @property
    def reserves_zero(self) -> bool:
        """Whether some stage takes slot 0 for padding, so that no live row may own it."""
        return any(rule.reserves_zero for _, rule in self.pads)

    def pad_output(self, output: str) -> PadPolicy:
        """The policy for one output; unspecified where the path says nothing."""
        return dict(self.pad_outputs).get(output, PadPolicy.UNSPECIFIED)


@dataclass(frozen=True)
class Dims:
    """Head dimensions a path takes: a range, and whether only powers of two or multiples."""

    low: int = 1
    high: int = 256
    multiple: int = 1
    power_of_two: bool = False

    def refuses(self, name: str, value: int) -> str | None:
        """Why `value` is not taken, or None."""
        if not self.low <= value <= self.high:
            return f"{name}={value} outside {self.low}…{self.high}"
        if value % self.multiple:
            return f"{name}={value} is no multiple of {self.multiple}"
        if self.power_of_two and value & (value - 1):
            return f"{name}={value} is no power of two"
        return None


_ALL_DTYPES = frozenset(DType)


class Group(StrEnum):
    """What a live row is: one resumed token, a stretch of prompt, or a draft to verify."""

    DECODE = "decode"
    PREFILL = "prefill"
    SPEC = "spec"


@dataclass(frozen=True)
class Capabilities:
    """What a path takes. Generation is narrowed to it before a case is drawn; the rest is refused.

    `pool` is False for paths that take dense states, one a row, and return new ones: they see no slots,
    no padding and no strides between slots. `column_strides` are those within a row of a table of slots, of drafts,
    `row_steps` those between the rows' counts and flags. `qk_epsilons` are what may be added to Σq² and Σk².
    `alike` names fields of `DTypes` that must be of one type.
    """

    span: Span
    groups: frozenset[Group] = frozenset(Group)
    mixes: bool = True
    pool: bool = True
    ratios: frozenset[int] = frozenset(RATIOS)
    key_dim: Dims = field(default_factory=Dims)
    value_dim: Dims = field(default_factory=Dims)
    square: bool = False
    widths: frozenset[int] = frozenset(range(2, 9))
    max_spec: int = 7
    max_tokens: int | None = None
    min_tokens: int = 0
    equal_lengths: bool = False
    activations: frozenset[DType] = _ALL_DTYPES
    states: frozenset[DType] = _ALL_DTYPES
    conv_states: frozenset[DType] = _ALL_DTYPES
    gates: frozenset[DType] = _ALL_DTYPES
    params: frozenset[DType] = _ALL_DTYPES
    weights: frozenset[DType] = _ALL_DTYPES
    alike: frozenset[str] = frozenset()
    state_orders: frozenset[StateOrder] = frozenset(StateOrder)
    conv_layouts: frozenset[ConvLayout] = frozenset(ConvLayout)
    packings: frozenset[Packing] = frozenset(Packing)
    paddings: frozenset[Padding] = frozenset(Padding)
    int64_indices: bool = True
    strided: bool = True
    misaligned: bool = True
    column_strides: bool = False
    row_steps: bool = False
    separate_slots: bool = False
    fresh_rows: bool = True
    beta_scales: frozenset[float] = frozenset({1.0})
    scales: bool = True
    qk_epsilons: frozenset[float] = frozenset({1e-6})

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The launch kinds these rows make, in the contract's order."""
        single = [Kind(group.value) for group in Group if group in self.groups]
        mixed = [Kind.MIXED] if self.mixes and len(self.groups) > 1 else []
        return (*single, *mixed)
