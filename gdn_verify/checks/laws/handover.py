"""Laws of hand-over: whoever takes up a state, of whatever kind and by whatever implementation, goes on with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import TypeVar

from gdn_verify.cases.contract import Group, Stage
from gdn_verify.cases.narrow import first_slot, taken_groups
from gdn_verify.checks.laws.breaks import state_ignored_in_last
from gdn_verify.checks.laws.law import Law, Varied
from gdn_verify.checks.laws.observe import refusal
from gdn_verify.checks.laws.relation import Relation, Trial
from gdn_verify.checks.laws.shots import Chain, Setting, Shot
from gdn_verify.checks.laws.stream import LONGEST, Step, Stream, fitted, plainest
from gdn_verify.feed import PARAMETERS, inputs
from gdn_verify.hosts import Host
from gdn_verify.paths import Path, registered

T = TypeVar("T")
OWN = "gdn_verify.paths."
PAIRS = 3
"""Pairs of kinds that one case hands over between."""


def _steps(setting: Setting, path: Path, name: str) -> dict[Group, Step]:
    """A launch of each kind that a path takes: how many tokens, and how many of a draft are accepted."""
    S = setting.case.geometry.S
    lengths, drafts, counts = setting.bits(name, 3)
    longest = max((row.tokens for row, _ in setting.live if not row.spec), default=1)
    prompt = 2 + lengths % min(max(longest - 1, 2), LONGEST)
    draft = 1 + drafts % S
    made = {
        Group.DECODE: Step(Group.DECODE, 1, 1),
        Group.PREFILL: Step(Group.PREFILL, prompt, prompt),
        Group.SPEC: Step(Group.SPEC, draft, 1 + counts % draft),
    }
    return {group: made[group] for group in taken_groups(path.capabilities)}


def _whole(step: Step) -> Step:
    """A last step: all of its drafts belong to the stream."""
    return replace(step, accepted=step.tokens)


def _some(options: Sequence[T], count: int | None, turn: int) -> list[T]:
    """So many of `options`, all by default, from another one on in each case."""
    return [options[(turn + i) % len(options)] for i in range(len(options))][:count]


def _needs_kinds(setting: Setting) -> str | None:
    taken = taken_groups(setting.path.capabilities)
    if Stage.DELTA not in setting.path.capabilities.span:
        return "no state to hand over"
    return f"only {taken[0]} rows, one way to go" if taken == (Group.DECODE,) else None


def handover(setting: Setting) -> Varied:
    """State left by a launch of any kind is taken up by any other: the path's own plainest way through the same tokens.

    Every pair of kinds that the path takes, some of them a case; drafts with a rejected tail among them, a commit where
    the contract asks for one.

    Bugs: precopy-skipped-on-chunk-continuation.
    """
    producers, consumers = _steps(setting, setting.path, "producer"), _steps(setting, setting.path, "consumer")
    pairs = list(product(producers.values(), map(_whole, consumers.values())))
    found = []
    for first, last in _some(pairs, PAIRS, setting.bits("pairs", 1)[0]):
        stream = Stream.of(setting, first.accepted + last.accepted)
        own = plainest(setting.path, stream.kept)
        if own != [first, last]:
            trial = Trial(stream.chain([first, last]), breaks=state_ignored_in_last(2))
            base = stream.chain(own)
            found.append(Relation(f"{first.group} handing over to {last.group}", (trial,), base=base))
    return found


def relay(setting: Setting) -> Varied:
    """State left by one implementation, in its declared layout, is taken up by another, and the other way round.

    With every path that runs beside this one from the same left edge, one of them a case. No entry of the catalogue is
    named after this law; a state's axes, a first slot or a conv column that two paths see differently break it.
    """
    mine = _steps(setting, setting.path, "consumer")
    turn = setting.bits("relay", 3)
    found: Varied = []
    for other in _some(partners(setting.path, setting.host), None, turn[2]):
        theirs = _steps(setting, other, "producer")
        own = [*mine.values()][turn[0] % len(mine)]
        its = [*theirs.values()][turn[1] % len(theirs)]
        for pair in ((replace(its, path=other), _whole(own)), (own, replace(_whole(its), path=other))):
            found.append(_relayed(setting, other, pair))
        if not any(refusal(trial.chain, setting) for relation in found[-2:] for trial in relation.trials):
            return found[-2:]
    return found


def _relayed(setting: Setting, other: Path, pair: tuple[Step, Step]) -> Relation:
    kept = pair[0].accepted + pair[1].accepted
    stream = Stream.of(setting, kept, first_slot(other.conventions))
    chain = stream.chain(pair)
    shots = (_by(shot, step, stream.setting) for shot, step in zip(chain.shots, pair, strict=True))
    names = " to ".join(f"{step.path.name if step.path else 'it'} ({step.group})" for step in pair)
    trial = Trial(Chain(chain.pools, tuple(shots)), breaks=state_ignored_in_last(2))
    return Relation(f"handed from {names}", (trial,), base=stream.chain(plainest(setting.path, kept)))


def _by(shot: Shot, step: Step, setting: Setting) -> Shot:
    """The launch as another path takes it: its layout, and the parameters of its span."""
    if step.path is None:
        return shot
    span = step.path.capabilities.span
    weights = {n: v for n, v in inputs(setting.case, 0, span).items() if n in PARAMETERS}
    made = {name: value for name, value in shot.inputs.items() if name not in PARAMETERS} | weights
    same = span.last is setting.path.capabilities.span.last
    shown = fitted(shot.presentation, step.path)
    return replace(shot, path=step.path, presentation=shown, inputs=made, outputs=same)


def partners(path: Path, host: Host) -> tuple[Path, ...]:
    """This project's other paths that start from the same tensors and run in this process.

    Those of other packages are held to these, not these to them: what ends a worker must be the path that is judged.
    """
    return tuple(_runnable(path.name, path, host))


def _runnable(name: str, path: Path, host: Host) -> Iterator[Path]:
    span = path.capabilities.span
    for other in registered().values():
        there = other.capabilities.span
        edge = there.first is span.first and there.qk_normalised == span.qk_normalised
        edge &= (
            there.last is span.last or span.first is Stage.UNPACK
        )  # z is packed there, and for a norm alone elsewhere
        own = type(other).__module__.startswith(OWN)
        if other.name != name and own and edge and Stage.DELTA in there and _loaded(other, host):
            yield other


def _loaded(path: Path, host: Host) -> bool:
    """Whether the path runs here: on this host, or as plain code on the processor."""
    where = host.name if host.name in path.hosts else "cpu" if host.device == "cpu" and "cpu" in path.hosts else None
    return where is not None and path.missing(where) is None and _load(path.name, where)


@lru_cache(maxsize=64)
def _load(name: str, where: str) -> bool:
    try:
        registered()[name].load(where)
    except Exception:  # its own jobs say that it does not load
        return False
    return True


def _needs_partners(setting: Setting) -> str | None:
    if Stage.DELTA not in setting.path.capabilities.span:
        return "no state to hand over"
    return None if partners(setting.path, setting.host) else "no other path here starts from the same tensors"


LAWS = (
    Law("hand-over", "a launch of any kind takes up any other's state", _needs_kinds, handover),
    Law("relay", "a path takes up any other's state", _needs_partners, relay),
)
