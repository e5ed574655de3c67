"""The hand-over table: the state that one path's prefill leaves is the state that another's decode step goes on from.

Both are fed one problem in one layout of the state, of one type; the producer's bytes are the consumer's pool. Each
launch is judged against the oracle from the bytes that it found, so that a cell says which of the two is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import Capabilities, ContractError, DType, Group, Kind, Span, Stage, StateOrder
from gdn_verify.cases.narrow import first_slot, stored, taken_dtypes, taken_groups
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.sizes import TINY
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.checks import values
from gdn_verify.checks.laws.stream import fitted
from gdn_verify.checks.question import ask, malformed, observed, written
from gdn_verify.drift import VALUES
from gdn_verify.feed import Feed, Pools, feed, initial_pools, pools_after
from gdn_verify.hosts import Host
from gdn_verify.matrix.asked import last_line
from gdn_verify.matrix.cells import Aspect, Cell, Key, State
from gdn_verify.matrix.padding import plain_layout
from gdn_verify.paths import Outputs, Path, find
from gdn_verify.paths.refusal import refusal_of
from gdn_verify.paths.relay import shared

SEED, TRIES = 20260807, 24


@dataclass(frozen=True)
class Handed:
    """What came of one producer and one consumer."""

    producer: str
    consumer: str
    host: str
    cell: Cell


@dataclass(frozen=True)
class HandoverOf:
    """What to measure: all `producers` before the consumer `path`, both on its host, `cases` times."""

    path: str
    host: str
    producers: tuple[str, ...]
    cases: int = 2

    def measured(self, path: Path, host: Host) -> list[Handed]:
        """The answers, in the worker."""
        return [
            Handed(name, path.name, host.name, handed(find(name), path, host, self.cases)) for name in self.producers
        ]

    def singly(self) -> Iterator[HandoverOf]:
        """The same, a producer each."""
        return (replace(self, producers=(name,)) for name in self.producers)

    def cells(self, answers: Sequence[Handed]) -> dict[Key, Cell]:
        """A cell a producer."""
        return {_key(each.producer): each.cell for each in answers}

    def lost(self, reason: str) -> dict[Key, Cell]:
        """Both were given what they declare to take."""
        cell = Cell(State.DISAGREES, why=f"not measured: {last_line(reason)}")
        return {_key(name): cell for name in self.producers}


def _key(producer: str) -> Key:
    return Key(Aspect.HANDOVER, Kind.DECODE.value, producer)


def questions(placed: Sequence[tuple[Path, str]], count: int) -> list[HandoverOf]:
    """Every consumer of decode rows or drafts, with every producer that can run in its process."""
    found = []
    for consumer, host in placed:
        if _consumes(consumer):
            names = tuple(dict.fromkeys(p.name for p, there in placed if _produces(p) and beside(p, there, host)))
            found += [HandoverOf(consumer.name, host, names, count)] if names else []
    return found


def _consumes(path: Path) -> bool:
    return Stage.DELTA in path.capabilities.span and bool(
        {Group.DECODE, Group.SPEC} & {*taken_groups(path.capabilities)}
    )


def _produces(path: Path) -> bool:
    return Stage.DELTA in path.capabilities.span and Group.PREFILL in path.capabilities.groups


def beside(path: Path, there: str, host: str) -> bool:
    """Whether a producer that runs `there` runs in the consumer's process: on its host, or as torch code beside the
    interpreter."""
    return there == host or (there == "cpu" and host == "interpreter" and host not in path.hosts)


def handed(producer: Path, consumer: Path, host: Host, count: int) -> Cell:
    """The cell of a pair, of `count` problems, in this process; refused where the two have nothing in common."""
    if producer.name != consumer.name:
        where = host.name if host.name in producer.hosts else "cpu"
        try:
            producer.load(where)
        except Exception as error:
            return Cell(State.DISAGREES, why=f"{producer.name} does not load: {type(error).__name__}: {error}")
    try:
        drawn = _drawn(producer, consumer)
    except ContractError as error:
        return Cell(State.REFUSED, why=str(error))
    pairs = list(_pairs(drawn, producer, consumer, count))
    taken = [pair for pair in pairs if not isinstance(pair, str)]
    if not taken:
        return Cell(State.REFUSED, why=next((why for why in pairs if isinstance(why, str)), "no shape that both take"))
    return _judged([_trial(pair, producer, consumer, host) for pair in taken])


def _judged(trials: list[tuple[float, str]]) -> Cell:
    ratio, wrong = max(ratio for ratio, _ in trials), [why for _, why in trials if why]
    return Cell(State.DISAGREES if wrong else State.AGREES, len(trials), ratio=ratio, why=wrong[0] if wrong else "")


@dataclass(frozen=True)
class Pair:
    """Two launches of one problem: a prefill as the producer is fed it, and the step after it as the consumer is."""

    first: Case
    fed: Presentation
    second: Case
    after: Presentation


def _drawn(producer: Path, consumer: Path) -> list[Fed]:
    """Steps of the consumer in shapes that both take. Raises ContractError where there are none."""
    common = shared(consumer.capabilities, producer.capabilities)
    for name, taken in (("state order", common.state_orders), ("type of state", common.states)):
        if not taken:
            raise ContractError(f"no {name} that both take")
    own = consumer.capabilities
    common = replace(common, pool=own.pool, packings=own.packings, conv_layouts=own.conv_layouts)
    kind = Kind.SPEC if _drafts(consumer) else Kind.DECODE
    drawn = draw_cases(cases(common, consumer.conventions, kind, size=TINY), TRIES, SEED)
    return [(_typed(case, common, producer.capabilities.span), shown) for case, shown in drawn]


def _typed(case: Case, common: Capabilities, span: Span) -> Case:
    """With types that both take where only the producer meets them. Raises ContractError where there are none."""
    changed: dict[str, DType] = {}
    for name in stored(span):
        taken = taken_dtypes(common, name)
        if not taken:
            raise ContractError(f"no type of {name} that both take")
        if getattr(case.dtypes, name) not in taken:
            changed[name] = min(taken)
    return replace(case, dtypes=replace(case.dtypes, **changed))


def _drafts(consumer: Path) -> bool:
    """Whether it goes on by a draft, having no decode rows."""
    return Group.DECODE not in taken_groups(consumer.capabilities)


def _pairs(drawn: Iterable[Fed], producer: Path, consumer: Path, count: int) -> Iterator[Pair | str]:
    """Up to `count` pairs of each state order that both take, or why they do not take what was drawn."""
    made = Counter[StateOrder]()
    for number, fed in enumerate(drawn):
        order = fed[1].state_order
        if made[order] == count:
            continue
        pair = _pair(*fed, producer, consumer, number)
        why = refusal_of(producer, pair.first, pair.fed) or refusal_of(consumer, pair.second, pair.after)
        yield why or pair
        made[order] += why is None


def _pair(case: Case, shown: Presentation, producer: Path, consumer: Path, seed: int) -> Pair:
    c, S, draft = producer.capabilities, case.geometry.S, _drafts(consumer)
    short = max(c.min_tokens, 3)
    lengths = (short, short if c.equal_lengths else short + 2)
    tables = [(0, *range(2, 1 + S)), (1, *range(1 + S, 2 * S))] if draft else [(0,), (1,)]
    prompts = tuple(Row(n, table[:1], fresh=c.fresh_rows) for n, table in zip(lengths, tables, strict=True))
    steps = tuple(Row(1, table, accepted=1 if draft else None) for table in tables)
    slots = 2 * S if draft else 2
    whole = replace(case, slots=slots, batches=(Batch(prompts),), values=replace(VALUES, seed=1 + seed))
    first = max(first_slot(producer.conventions), first_slot(consumer.conventions))
    layout = replace(plain_layout(shown), first_slot=first)
    return Pair(
        whole, fitted(layout, producer),
        replace(whole, batches=(Batch(steps),)), fitted(layout, consumer),
    )  # fmt: skip


def _trial(pair: Pair, producer: Path, consumer: Path, host: Host) -> tuple[float, str]:
    """The worst ratio, and what is wrong, of whom."""
    pools = initial_pools(pair.first, producer, pair.fed)
    ratio, why, left = _launched(pair.first, pair.fed, producer, pools, host)
    if why:
        return ratio, f"{producer.name}, the producer: {why}"
    own = initial_pools(pair.second, consumer, pair.after)
    both = Stage.CONV in producer.capabilities.span and Stage.CONV in consumer.capabilities.span
    taken_up = Pools(left.ssm, left.conv if both else own.conv)
    ratio, why, _ = _launched(pair.second, pair.after, consumer, taken_up, host)
    return ratio, f"{consumer.name}, the consumer: {why}" if why else ""


def _launched(case: Case, shown: Presentation, path: Path, pools: Pools, host: Host) -> tuple[float, str, Pools]:
    """Launch and judge; the pools afterwards, a dense path's states in their slots."""
    fed = feed(case, 0, path, shown, pools, host.device)
    span, by = path.capabilities.span, path.serving(fed.batch, 0)
    try:
        outputs = path.run(fed.launch)
        host.synchronize()
    except Exception as error:
        return 0.0, f"raised {type(error).__name__}: {error}", pools
    if wrong := next(iter(malformed(fed, outputs, span)), None):
        return 0.0, str(wrong), pools
    after = pools_after(fed, outputs.final_state)
    judged = _judge(fed, outputs, after, span, by, host)
    return judged.worst_ratio, str(judged.findings[0]) if judged.findings else "", after


def _judge(fed: Feed, outputs: Outputs, after: Pools, span: Span, by: Path, host: Host) -> values.Judged:
    problem = ask(fed, span)
    stored = written(fed, problem.every_token)
    seen = observed(fed, outputs, after.ssm, problem.every_token)
    return values.judge(problem, by.rounding(fed.case, fed.presentation, host.name), stored, seen)
