"""Laws of linearity: what v and the initial state give adds up, and factors pass through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from gdn_verify.cases.contract import Activation, DType, Stage
from gdn_verify.checks.laws.breaks import other_state, states_negated
from gdn_verify.checks.laws.law import Law, Varied
from gdn_verify.checks.laws.relation import Likeness, Relation, Trial
from gdn_verify.checks.laws.shots import Chain, Setting, Shot, with_states
from gdn_verify.feed import Pools
from gdn_verify.oracles.compose import Problem


def _ends_in_o(setting: Setting) -> bool:
    return setting.path.capabilities.span.last is Stage.DELTA


def _resumed(setting: Setting) -> list[int]:
    """Places in the pools of the states that live rows start from."""
    slots = [row.read_slot for row, _ in setting.live if not row.fresh]
    return [setting.physical(slot) for slot in slots if slot is not None]


def _needs_a_state(setting: Setting) -> str | None:
    if Stage.DELTA not in setting.path.capabilities.span:
        return "no state"
    return None if _resumed(setting) else "no live row with an initial state"


def _scaled_states(setting: Setting, factor: float) -> Pools:
    places = _resumed(setting)
    assert setting.pools.ssm is not None
    return with_states(setting.pools, places, setting.pools.ssm[places] * factor)


def scaled(setting: Setting, which: str, factor: float) -> tuple[Mapping[str, Tensor], Tensor | None]:
    """The inputs and the conv pool with q or v times `factor`, wherever the span takes them."""
    base = setting.base.shots[0].inputs
    if which in base:
        return {**base, which: base[which] * factor}, setting.pools.conv
    g = setting.case.geometry
    part = slice(2 * g.H * g.K, None) if which == "v" else slice(0, g.H * g.K)
    x, conv = base["x"].clone(), setting.pools.conv
    x[:, part] *= factor
    if conv is not None:
        conv = conv.clone()
        conv[:, part] *= factor
    return {**base, "x": x}, conv


def _linear_front(setting: Setting) -> bool:
    """Whether a factor of an input reaches the recurrence."""
    options = setting.case.options
    conv = Stage.CONV in setting.path.capabilities.span
    return not conv or (options.conv_activation is Activation.NONE and not options.conv_bias)


def _with(setting: Setting, which: str, factor: float, pools: Pools) -> Chain:
    made, conv = scaled(setting, which, factor)
    return Chain(replace(pools, conv=conv), (_shot(setting, made),))


def _shot(setting: Setting, made: Mapping[str, Tensor]) -> Shot:
    return replace(setting.base.shots[0], inputs=made)


def _needs_a_linear_front(setting: Setting) -> str | None:
    if not _linear_front(setting):
        return "the conv's activation or bias lies between v and the recurrence"
    return None if setting.live else "no live row"


def homogeneity(setting: Setting) -> Varied:
    """v and S₀ times 2ⁿ scale o and the states; -v and -S₀ negate them; -q negates o. Bit for bit, but for underflow.

    No entry of the catalogue is named after this law: constants added to v or to a state break it.
    """
    negated = Trial(_with(setting, "v", -1.0, _scaled_states(setting, -1.0)), -1.0, breaks=states_negated)
    found = [Relation("v and the states being negated", (negated,), likeness=Likeness.EQUAL, copies=False)]
    asked = Trial(_with(setting, "q", -1.0, setting.pools), -1.0, breaks=other_state)
    found.append(Relation("q being negated", (asked,), likeness=Likeness.EQUAL, copies=False, states=False))
    narrow = DType.F16 in (setting.case.dtypes.activation, setting.case.dtypes.state)
    factor = (2.0, 0.5, 8.0, 0.125)[setting.bits("homogeneity", 1)[0] % 4]
    if not narrow:
        # Below this a float32 on the way may have been denormal, and is rounded to a grid that does not scale.
        floor = DType.F32.underflow / DType.F32.unit_roundoff
        chain = _with(setting, "v", factor, _scaled_states(setting, factor))
        trial = Trial(chain, 1 / factor, breaks=other_state)
        found.append(
            Relation(f"v and the states times {factor:g}", (trial,), likeness=Likeness.EQUAL, copies=False, floor=floor,
                     outputs=_ends_in_o(setting))
        )  # fmt: skip
    return found


def linearity(setting: Setting) -> Varied:
    """out(2·h₀) - out(h₀) = out(h₀) - out(0), and out(v, h₀) = out(v, 0) + out(0, h₀); of states too.

    No entry of the catalogue is named after this law: an h₀ that is counted twice is still linear (`split` sees it).
    States that are clamped or offset, or squared by a mistake, break it.
    """
    zero = Chain(_scaled_states(setting, 0.0), setting.base.shots)
    twice = Chain(_scaled_states(setting, 2.0), setting.base.shots)
    halves = Trial(twice, 0.5, breaks=states_negated), Trial(zero, 0.5)
    outputs = _ends_in_o(setting)
    found = [Relation("as the mean of h₀ doubled and h₀ = 0", halves, adds=True, outputs=outputs)]
    if not setting.case.options.conv_bias:
        made, conv = scaled(setting, "v", 0.0)
        nothing = Chain(replace(setting.pools, conv=conv), (_shot(setting, made),))
        parts = Trial(zero), Trial(nothing, breaks=states_negated)
        found.append(Relation("as the sum of h₀ = 0 and v = 0", parts, adds=True, outputs=outputs, copies=False))
    return found


def _needs_a_scale(setting: Setting) -> str | None:
    if not setting.path.capabilities.scales:
        return "only the scale K^-½"
    if not setting.live:
        return "no live row"
    return "scale = 0 already" if setting.case.options.scale == 0.0 else None


def scale(setting: Setting) -> Varied:
    """The scale of q is used as given: it scales o and no state, and a scale of 0 gives outputs of 0.

    Bugs: scale-zero-sentinel (0.0 is taken for "the default").
    """
    base = setting.base.shots[0]
    given = setting.case.options.q_scale(setting.case.geometry)

    def chain(factor: float) -> Chain:
        options = replace(setting.case.options, scale=factor * given)
        return Chain(setting.pools, (replace(base, case=replace(base.case, options=options)),))

    nothing = Trial(chain(0.0), breaks=_default_scale)
    found = [Relation("the scale being 0", (nothing,), of_base=0.0, likeness=Likeness.EQUAL, states=False)]
    twice = Trial(chain(2.0), breaks=other_state)
    found.append(Relation("the scale being doubled", (twice,), outputs=False))
    if _ends_in_o(setting):
        half = Trial(chain(2.0), 0.5, breaks=_default_scale)
        found.append(Relation("the scale being doubled", (half,), states=False))
    return found


def _default_scale(number: int, problem: Problem) -> Problem:
    return replace(problem, options=replace(problem.options, scale=None))


LAWS = (
    Law("homogeneity", "factors and signs of v, h₀ and q pass through", _needs_a_linear_front, homogeneity),
    Law("linearity", "what v and h₀ give adds up", _needs_a_state, linearity),
    Law("scale", "the scale is used as given, 0 too", _needs_a_scale, scale),
)
