"""Running a chain of launches: what it gave back, and what the oracle would be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import DType, Stage, StateOrder
from gdn_verify.cases.narrow import refuses
from gdn_verify.cases.strategies import Fed
from gdn_verify.checks.laws.budget import Question
from gdn_verify.checks.laws.shots import Chain, Numbers, Setting, Shot
from gdn_verify.checks.question import Written, ask, double, malformed, observed, written
from gdn_verify.feed import TORCH, Feed, Pools, feed, pools_after
from gdn_verify.oracles.compose import Array
from gdn_verify.paths.base import Launch, Outputs, Path

Run = Callable[[Path], Callable[[Launch], Outputs]]
"""How a path is launched: as it is, or as a defective copy."""


Misled = Callable[[Fed], str]
"""Why the values of a launch of the path that is judged are known to be wrong; "" where nothing is known."""


def trusted(fed: Fed) -> str:
    """Nothing is known of any launch."""
    return ""


class MalformedError(Exception):
    """A launch gave back something that cannot be compared."""


@dataclass
class Seen:
    """What a chain gave back, launch after launch.

    `results`: out [n, HV, V] (o where there is no norm), z [n, HV, V], h [m, HV, V, K] and the states from which those
    rows started, h0, conv [r, D, W-1] (the history that the row's next token meets). `numbers` has the token number of
    each along the first axis.
    """

    results: dict[str, list[Array]] = field(default_factory=dict)
    numbers: dict[str, list[Numbers]] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)

    def add(self, name: str, value: Array, numbers: Numbers) -> None:
        """Results of one more launch."""
        self.results.setdefault(name, []).append(value)
        self.numbers.setdefault(name, []).append(numbers)

    def values(self) -> dict[str, Array]:
        """Everything, by name."""
        return {name: np.concatenate(parts) for name, parts in self.results.items()}

    def all_numbers(self) -> dict[str, Numbers]:
        """Token numbers, by name."""
        return {name: np.concatenate(parts) for name, parts in self.numbers.items()}


def refusal(chain: Chain, setting: Setting, misled: Misled = trusted) -> str | None:
    """Why a path cannot take some launch of the chain, or why that proves nothing; or None."""
    pools = chain.pools
    for shot in chain.shots:
        path = shot.path or setting.path
        case = _as_stored(shot, pools).case
        reason = refuses(path.capabilities, path.conventions, case, shot.presentation)
        if reason := reason or path.refuses(case, shot.presentation) or _of_another_pool(case, shot, setting):
            return f"{path.name}: {reason}" if shot.path else reason
        if not shot.path and (reason := misled((case, shot.presentation))):
            return reason
        if not path.capabilities.pool and pools.ssm is not None:
            pools = replace(pools, ssm=pools.ssm.float())
    return None


def _of_another_pool(case: Case, shot: Shot, setting: Setting) -> str | None:
    """Of a kernel that is compiled for a pool's slots there is one, that of the setting's pool."""
    path = shot.path or setting.path
    other = case.slots != setting.case.slots and path.one_pool(shot.presentation)
    return f"case.slots={case.slots}: another pool than that of {setting.case.slots} slots" if other else None


def _as_stored(shot: Shot, pools: Pools) -> Shot:
    """The launch on states of the type in which the pools now are: a dense path gives float32 ones back."""
    if pools.ssm is None or pools.ssm.dtype is TORCH[shot.case.dtypes.state]:
        return shot
    return replace(shot, case=replace(shot.case, dtypes=replace(shot.case.dtypes, state=DType.F32)))


def observe(chain: Chain, setting: Setting, run: Run) -> Seen:
    """Launch the chain. Raises what the path raises, and MalformedError for results that cannot be compared."""
    seen, pools, states = Seen(), chain.pools, _States()
    for shot in chain.shots:
        path = shot.path or setting.path
        pools = _committed(pools, shot, setting)
        states.commit(shot)
        shot = _as_stored(shot, pools)
        fed = feed(shot.case, 0, path, shot.presentation, pools, setting.host.device, rounded=shot.inputs)
        outputs = run(path)(fed.launch)
        if wrong := next(malformed(fed, outputs, path.capabilities.span), None):
            raise MalformedError(str(wrong))
        pools = _after(fed, path, outputs)
        _collect(seen, shot, fed, path, outputs, pools, states, setting.host.name)
    return seen


@dataclass
class _States:
    """Which result h of the chain a slot holds."""

    at: dict[int, int] = field(default_factory=dict)
    count: int = 0

    def commit(self, shot: Shot) -> None:
        for table, accepted in shot.commits:
            self.at[table[0]] = self.at[table[accepted - 1]]

    def arrives(self, fed: Feed) -> tuple[int | None, ...]:
        """For each live row, the earlier result that it starts from; None for the pools as they were, or zeros."""
        rows = [row for _, row in fed.batch.live_rows()]
        return tuple(None if row.fresh or row.read_slot is None else self.at.get(row.read_slot) for row in rows)

    def store(self, stored: list[Written]) -> None:
        for state in stored:
            self.at[state.slot] = self.count
            self.count += 1


def _committed(pools: Pools, shot: Shot, setting: Setting) -> Pools:
    """Contract: ssm column a-1 to column 0, conv [a-1, a+W-2) to [0, W-1)."""
    past = setting.case.geometry.W - 1
    for table, accepted in shot.commits:
        first, last = (shot.presentation.physical(slot) for slot in (table[0], table[accepted - 1]))
        if pools.ssm is not None:
            ssm = pools.ssm.clone()
            ssm[first] = ssm[last]
            pools = replace(pools, ssm=ssm)
        if pools.conv is not None:
            conv = pools.conv.clone()
            conv[first, :, :past] = pools.conv[first, :, accepted - 1 : accepted - 1 + past]
            pools = replace(pools, conv=conv)
    return pools


def _after(fed: Feed, path: Path, outputs: Outputs) -> Pools:
    """The pools after the launch; a dense path's new states go to the slots of its rows, in the type they have."""
    if path.capabilities.pool:
        return pools_after(fed)
    pools = fed.before
    if outputs.final_state is None or pools.ssm is None:
        return pools
    final = outputs.final_state.detach().cpu().float()
    final = final.transpose(-1, -2) if fed.presentation.state_order is StateOrder.KV else final
    ssm = pools.ssm.float().clone()
    for number, row in fed.batch.live_rows():
        assert row.slots[0] is not None
        ssm[fed.physical(row.slots[0])] = final[number]
    return replace(pools, ssm=ssm)


def _collect(
    seen: Seen, shot: Shot, fed: Feed, path: Path, outputs: Outputs, pools: Pools, states: _States, host: str
) -> None:
    problem = ask(fed, path.capabilities.span)
    stored = written(fed, problem.every_token)
    rounding = path.rounding(shot.case, fed.presentation, host)
    seen.questions.append(Question(problem, rounding, tuple(stored), states.arrives(fed)))
    states.store(stored)
    got = observed(fed, outputs, pools.ssm, problem.every_token)
    live = shot.tokens[fed.live_tokens]
    seen.add("out", got["out"] if "out" in got else got["o"], live if shot.outputs else np.full_like(live, -1))
    if "h" in got:
        seen.add("h", got["h"], _numbers_of_states(shot, stored))
        assert problem.state is not None
        seen.add("h0", problem.state[_rows_of_states(fed, stored)], _numbers_of_states(shot, stored))
    if "z_out" in fed.launch.tensors:
        seen.add("z", double(fed.launch["z_out"].cpu()[torch.from_numpy(fed.live_tokens)]), live)
    if Stage.CONV in path.capabilities.span:
        seen.add("conv", *_histories(shot, fed, pools))


def _starts(shot: Shot) -> tuple[int, ...]:
    return shot.batch.query_start_loc


def _numbers_of_states(shot: Shot, stored: list[Written]) -> Numbers:
    return np.array([shot.tokens[_starts(shot)[state.row] + state.token] for state in stored], np.int64)


def _rows_of_states(fed: Feed, stored: list[Written]) -> NDArray[np.int64]:
    """The place among live rows of each stored state's row."""
    place = {number: at for at, (number, _) in enumerate(fed.batch.live_rows())}
    return np.array([place[state.row] for state in stored], np.int64)


def _histories(shot: Shot, fed: Feed, pools: Pools) -> tuple[Array, Numbers]:
    """What the token after each live row's last one meets, all tokens of a draft being accepted."""
    assert pools.conv is not None
    past, starts = shot.case.geometry.W - 1, _starts(shot)
    found, numbers = [], []
    for number, row in fed.batch.live_rows():
        assert row.conv_slot is not None
        first = row.tokens - 1 if row.spec else 0
        found.append(double(pools.conv[fed.physical(row.conv_slot)][:, first : first + past]))
        numbers.append(int(shot.tokens[starts[number + 1] - 1]))
    shape = (0, shot.case.geometry.D, past)
    return (np.stack(found) if found else np.zeros(shape)), np.array(numbers, np.int64)


def unfinished(seen: Seen) -> Iterator[str]:
    """Launches after the first that met a history which is not finite: no budget follows from one."""
    for number, question in enumerate(seen.questions):
        history = question.problem.history
        if history is not None and not np.isfinite(history).all():
            yield f"launch {number} finds a convolution's history that is not finite"
