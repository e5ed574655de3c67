"""What a path does with a padded row: asked for each id, in a worker that may die of it, beside what it declares.

A live row, a row of nobody with tokens, another live row; slot 0 and the last one are nobody's. What the padded row's
outputs and all other slots hold afterwards is a fact; where the path declares the id, its promise is held to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gdn_verify.arena import Writable
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.contract import Capabilities, ContractError, Geometry, Kind, Padding, PadPolicy
from gdn_verify.cases.presentation import Poison, Presentation
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.sizes import TINY
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.cases.topics import Topic
from gdn_verify.checks.bits import bits
from gdn_verify.drift import VALUES
from gdn_verify.feed import Feed, Pools, feed, initial_pools, pools_after
from gdn_verify.hosts import Host
from gdn_verify.matrix.asked import last_line
from gdn_verify.matrix.cells import Aspect, Cell, Key, State
from gdn_verify.paths import Path, find
from gdn_verify.paths.refusal import refusal_of

IDS = (-1, -7, 0)
"""Ids of nobody that a path may meet. Beyond the pool is a different question: who would own it?"""
KINDS = (Kind.DECODE, Kind.PREFILL, Kind.SPEC)
SEED, TRIES = 20260806, 24
ANY_POOL = 8
"""Slots of a pool, where any number would do."""
NOBODYS = 0.25
UNTOUCHED, WRITTEN = "untouched", "written"


@dataclass(frozen=True)
class Padded:
    """What was seen: by output and pool what a padded row left there, in words; or what the path raised."""

    path: str
    host: str
    kind: Kind
    id: int
    declared: bool
    promised: tuple[tuple[str, str], ...] = ()
    seen: tuple[tuple[str, str], ...] = ()
    raised: str = ""
    case: str = ""

    @property
    def broken(self) -> str:
        """Which promise is not kept, or ""."""
        if not self.declared:
            return ""
        if self.raised:
            return self.raised
        found = dict(self.seen)
        wrong = (f"{n} {found[n]}, declared {want}" for n, want in self.promised if found.get(n, want) != want)
        return "; ".join(wrong)

    @property
    def cell(self) -> Cell:
        """Refused where the id is none that the path declares: what it does then is told, and judged by nobody."""
        seen = self.raised or ", ".join(f"{name} {word}" for name, word in self.seen)
        if not self.declared:
            return Cell(State.REFUSED, 1, why=f"not declared; {seen}")
        if self.broken:
            why = self.raised or f"{self.broken}; observed: {seen}"
            return Cell(State.DISAGREES, 1, why=why, case=self.case)
        return Cell(State.AGREES, 1, why=seen)


@dataclass(frozen=True)
class PadsOf:
    """What to measure: kinds of launch, and ids, of a path on a host."""

    path: str
    host: str
    kinds: tuple[Kind, ...] = KINDS
    ids: tuple[int, ...] = IDS

    def measured(self, path: Path, host: Host) -> list[Padded]:
        """The answers, in the worker."""
        return [each for kind in self.kinds for id in self.ids if (each := observe(path, host, kind, id))]

    def singly(self) -> Iterator[PadsOf]:
        """The same, an id and a kind each."""
        return (replace(self, kinds=(kind,), ids=(id,)) for kind in self.kinds for id in self.ids)

    def cells(self, answers: Sequence[Padded]) -> dict[Key, Cell]:
        """A cell for each kind and id."""
        return {Key(Aspect.PADDING, each.kind.value, f"id {each.id}"): each.cell for each in answers}

    def lost(self, reason: str) -> dict[Key, Cell]:
        """A worker's death is an answer."""
        (kind,), (id,) = self.kinds, self.ids
        declared = declares(find(self.path), id, ANY_POOL)
        raised = f"ends its worker: {last_line(reason)}"
        return self.cells([Padded(self.path, self.host, kind, id, declared, raised=raised)])


def questions(placed: Iterable[tuple[Path, str]], topics: Collection[Topic]) -> list[PadsOf]:
    """Of each path that has slots, on its host, those of these kinds that it takes."""
    found = []
    for path, host in placed:
        kinds = tuple(kind for kind in KINDS if kind in path.capabilities.kinds and kind in topics)
        if path.capabilities.pool and kinds:
            found.append(PadsOf(path.name, host, kinds))
    return found


def declares(path: Path, id: int, slots: int) -> bool:
    """Whether a path says that a row of this id, with tokens, is padding."""
    return Padding.SENTINEL_ROW in path.capabilities.paddings and id in path.conventions.pad_ids(slots)


def observe(path: Path, host: Host, kind: Kind, id: int) -> Padded | None:
    """Launch once with a padded row of this id in the middle; None where no such launch without it is taken."""
    made = padded(path, kind, id)
    if made is None:
        return None
    case, shown = made
    fed = feed(case, 0, path, shown, _pools_of(case, path, shown), host.device)
    told = Padded(path.name, host.name, kind, id, declares(path, id, case.slots + 1), _promised(path, fed))
    try:
        path.run(fed.launch)
        host.synchronize()
    except Exception as error:
        return replace(told, raised=f"raises {type(error).__name__}: {error}".splitlines()[0], case=_file(made))
    return replace(told, seen=tuple(_seen(path, fed)), case=_file(made))


def _pools_of(case: Case, path: Path, shown: Presentation) -> Pools:
    """As ever, but that slots of nobody hold what no padded token does: what is written there shows."""
    pools = initial_pools(case, path, shown)
    return Pools(*(None if pool is None else _at(pool, (0, -1), NOBODYS) for pool in (pools.ssm, pools.conv)))


def _at(pool: Tensor, slots: tuple[int, ...], value: float) -> Tensor:
    pool = pool.clone()
    pool[list(slots)] = value
    return pool


def _file(fed: Fed) -> str:
    return dumps(CaseFile(*fed))


def padded(path: Path, kind: Kind, id: int) -> Fed | None:
    """A launch of a shape that the path takes; slot 0 of the pool, and the last, are nobody's."""
    try:
        drawn = draw_cases(cases(path.capabilities, path.conventions, kind, size=TINY), TRIES, SEED)
    except ContractError:
        return None
    for case, shown in drawn:
        live, blank, slots = _rows(path.capabilities, kind, case.geometry)
        plain = replace(case, slots=slots + 1, batches=(Batch(live),), values=VALUES)
        fed = replace(plain_layout(shown), sentinel=id, first_slot=1, poison=Poison.PLAUSIBLE)
        if refusal_of(path, plain, fed) is None:
            return replace(plain, batches=(Batch((live[0], blank, live[1])),)), fed
    return None


def plain_layout(shown: Presentation) -> Presentation:
    """Packing and the orders of axes as they are; dense and aligned."""
    return Presentation(packing=shown.packing, state_order=shown.state_order, conv_layout=shown.conv_layout)


def _rows(c: Capabilities, kind: Kind, g: Geometry) -> tuple[tuple[Row, Row], Row, int]:
    """Two live rows, the padded one, and how many slots the live ones own."""
    if kind is Kind.SPEC:
        tokens, S = min(2, g.S), g.S
        tables = (tuple(range(S)), tuple(range(S, 2 * S)))
        first, second = (Row(tokens, table, accepted=1) for table in tables)
        return (first, second), Row(tokens, (None,) * S, accepted=1), 2 * S
    tokens = 1 if kind is Kind.DECODE else max(c.min_tokens, 3)
    return (Row(tokens, (0,)), Row(tokens, (1,))), Row(tokens, (None,)), 2


def _promised(path: Path, fed: Feed) -> tuple[tuple[str, str], ...]:
    words = {PadPolicy.ZEROS: "zeros", PadPolicy.UNTOUCHED: UNTOUCHED, PadPolicy.COPIES: "copies"}
    outputs = [name for name in ("out", "z_out") if name in fed.launch.tensors]
    policies = {name: path.conventions.pad_output(name) for name in outputs}
    pools = tuple((name, UNTOUCHED) for name in ("ssm_pool", "conv_pool") if name in fed.launch.tensors)
    kept = tuple((name, words[policy]) for name, policy in policies.items() if policy in words)
    return (*kept, *pools, ("other memory", UNTOUCHED))


def _seen(path: Path, fed: Feed) -> Iterator[tuple[str, str]]:
    starts = fed.batch.query_start_loc
    outputs = [name for name in ("out", "z_out") if name in fed.launch.tensors]
    for name in outputs:
        yield name, _output(fed, name, slice(starts[1], starts[2]))
    after = pools_after(fed)
    yield from _pools(path, fed, after)
    allowed = {name: Writable.ALL for name in (*outputs, "ssm_pool", "conv_pool") if name in fed.launch.tensors}
    around = fed.arena.violations(allowed)
    yield "other memory", f"{WRITTEN}: {around[0].buffer}" if around else UNTOUCHED


def _output(fed: Feed, name: str, tokens: slice) -> str:
    got = fed.launch[name][tokens].detach().cpu()
    if bool(fed.arena.still_poisoned(name)[tokens].all()):
        return UNTOUCHED
    if name == "z_out" and torch.equal(bits(got), bits(fed.rounded["z"][tokens].reshape(got.shape))):
        return "copies"
    return "zeros" if bool((got == 0).all()) else WRITTEN


def _pools(path: Path, fed: Feed, after: Pools) -> Iterator[tuple[str, str]]:
    """Which slots of nobody have changed."""
    live = [row for _, row in fed.batch.live_rows()]
    owned = {
        "ssm_pool": {fed.physical(slot) for row in live for slot in row.written},
        "conv_pool": {fed.physical(row.conv_slot) for row in live if row.conv_slot is not None},
    }
    pairs = {"ssm_pool": (fed.before.ssm, after.ssm), "conv_pool": (fed.before.conv, after.conv)}
    for name, (before, now) in pairs.items():
        if name in fed.launch.tensors and before is not None and now is not None:
            changed = (bits(before) != bits(now)).flatten(1).any(dim=1).nonzero().flatten().tolist()
            wrong = [slot for slot in changed if slot not in owned[name] | {path.conventions.scratch_slot}]
            yield name, f"{WRITTEN}: slot {', '.join(map(str, wrong))} of {len(now)}" if wrong else UNTOUCHED
