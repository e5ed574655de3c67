"""Laws of degenerate gates: g = 0, β = 0, and a decay that leaves nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdn_verify.cases.contract import DType, Stage
from gdn_verify.cases.values import Gates
from gdn_verify.checks.laws.breaks import all_is_written, nothing_decays, other_state
from gdn_verify.checks.laws.law import Law, Varied
from gdn_verify.checks.laws.relation import Likeness, Relation, Trial
from gdn_verify.checks.laws.shots import Chain, Setting, Shot, with_states
from gdn_verify.feed import initial_pools

Mask = NDArray[np.bool_]
FORGETS = -150.0
"""A log decay that is legal and leaves nothing of a float32."""
NEXT_TO_NOTHING = -(2.0**-60)
"""A log decay that no float32 feels: 1 + it is 1."""
RAW = {0.0: -90.0, NEXT_TO_NOTHING: -50.0}
"""Inputs of softplus that give such decays, or ones as small."""


def decaying(setting: Setting, where: Mask, g: float) -> dict[str, Tensor]:
    """The inputs with the log decay `g` at tokens and heads `where`, [T + pad, HV]."""
    made, mask = dict(setting.inputs), torch.from_numpy(where)
    name = "g" if "g" in made else "a"
    value = made[name]
    wanted = torch.full_like(value, g) if name == "g" else _raw(setting, g).to(value.dtype).expand_as(value)
    return {**made, name: torch.where(mask, wanted, value)}


def _raw(setting: Setting, g: float) -> Tensor:
    """What softplus takes for the log decay `g`, a head, [HV]; large, so that softplus is the identity."""
    A_log, bias = setting.inputs["A_log"].float(), setting.inputs["dt_bias"].float()
    return torch.full_like(A_log, RAW[g]) if g in RAW else -g / A_log.exp() - bias


def unwritten(made: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs with β = 0."""
    name, value = ("beta", 0.0) if "beta" in made else ("b", -120.0)
    return {**made, name: torch.full_like(made[name], value)}


def _all(setting: Setting) -> Mask:
    return np.ones((setting.base.shots[0].tokens.size, setting.case.geometry.HV), bool)


def _chain(setting: Setting, made: dict[str, Tensor], shot: Shot | None = None) -> Chain:
    return Chain(setting.pools, (replace(shot or setting.base.shots[0], inputs=made),))


def _needs_gates(setting: Setting) -> str | None:
    if Stage.DELTA not in setting.path.capabilities.span:
        return "no recurrence"
    return None if setting.live else "no live row"


def _needs_fine_gates(setting: Setting) -> str | None:
    if "g" in setting.inputs and setting.case.dtypes.gates is DType.F16:
        return "dtypes.gates=float16: it has no number next to 0"
    return _needs_gates(setting)


def no_decay(setting: Setting) -> Varied:
    """g = 0 is the plain delta rule: that of a decay next to nothing, at every token or at some.

    Bugs: zero-gate-difference-dropped (where gates do not differ, exp(0) becomes 0).
    """
    everywhere = _all(setting)
    some = (np.array(setting.bits("no-decay", everywhere.size)) % 2 == 0).reshape(everywhere.shape)
    found = []
    for says, where in (("at every token", everywhere), ("at half of the tokens", some)):
        base = _chain(setting, decaying(setting, where, 0.0))
        trial = Trial(_chain(setting, decaying(setting, where, NEXT_TO_NOTHING)), breaks=other_state)
        found.append(Relation(f"g being -2⁻⁶⁰ or so, not 0, {says}", (trial,), base=base))
    return found


def no_writing(setting: Setting) -> Varied:
    """β = 0 writes nothing: v and k are of no matter, and with g = 0 a state stays what it was.

    No entry of the catalogue is named after this law; β left out of W, of u or of a chunk's inverse breaks it.
    """
    made = unwritten(dict(setting.inputs))
    base = _chain(setting, made)
    trial = Trial(_chain(setting, {**made, **_foreign_values(setting)}), breaks=all_is_written)
    found = [Relation("v being another one", (trial,), base=base, copies=False)]
    still = _chain(setting, unwritten(decaying(setting, _all(setting), 0.0)))
    found.append(
        Relation(
            "with g = 0", base=still, kept=True, kept_breaks=all_is_written, likeness=Likeness.EQUAL, outputs=False
        )
    )
    return found


def _foreign_values(setting: Setting) -> dict[str, Tensor]:
    everywhere = _all(setting)[:, 0]
    other = setting.foreign(everywhere)
    if "v" in other:
        return {"v": other["v"]}
    g, x = setting.case.geometry, setting.inputs["x"].clone()
    x[:, 2 * g.H * g.K :] = other["x"][:, 2 * g.H * g.K :]
    return {"x": x}


def _needs_a_state(setting: Setting) -> str | None:
    if why := _needs_gates(setting):
        return why
    resumed = any(not row.fresh for row, _ in setting.live)
    return None if resumed else "no live row with an initial state"


def forgetting(setting: Setting) -> Varied:
    """From a token on that forgets all (g very negative), the initial state is of no matter.

    No entry of the catalogue is named after this law; decays that are bounded, or applied to a part, break it.
    """
    numbers = setting.bits("forgetting", len(setting.rows))
    after = [np.arange(row.tokens) >= n % max(row.tokens, 1) for (row, _), n in zip(setting.rows, numbers, strict=True)]
    later = np.concatenate([np.zeros(0, bool), *after, np.zeros(len(setting.padding), bool)])
    first = later & ~np.concatenate([[False], later[:-1]])
    starts = np.isin(np.arange(later.size), setting.batch.query_start_loc)
    at = (first | (later & starts))[:, None] & _all(setting)
    shot = setting.base.shots[0].numbered(later)
    spiked = replace(shot.case, values=replace(shot.case.values, gates=Gates.SPIKE))  # what a path is asked about
    base = _chain(setting, decaying(setting, at, FORGETS), replace(shot, case=spiked))
    trial = Trial(replace(base, pools=_other_states(setting).pools), breaks=nothing_decays)
    return [Relation("the initial states being others", (trial,), base=base)]


def _other_states(setting: Setting) -> Setting:
    values = replace(setting.case.values, seed=(setting.case.values.seed + 1) % 2**32)
    normal = replace(values, state=type(values.state).NORMAL)
    other = initial_pools(replace(setting.case, values=normal), setting.path, setting.presentation)
    places = [setting.physical(row.read_slot) for row, _ in setting.live if row.read_slot is not None and not row.fresh]
    assert other.ssm is not None
    return replace(setting, pools=with_states(setting.pools, places, other.ssm[places]))


LAWS = (
    Law("no-decay", "g = 0 is the plain delta rule", _needs_fine_gates, no_decay),
    Law("no-writing", "β = 0 writes nothing", _needs_gates, no_writing),
    Law("forgetting", "a decay to nothing forgets the state", _needs_a_state, forgetting),
)
