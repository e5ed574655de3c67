"""Batch invariance: are a row's results the same bits alone, among other rows, and at another place among them?

The contract asks it of nobody: it holds within the budget (packing, permutation), and bit for bit where a path claims
it (`Conventions.batch_invariant`). Here it is a fact that is measured, and a law for who claims it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gdn_verify.cases.case import Batch, Case
from gdn_verify.cases.contract import Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.sizes import SMALL, Size
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.checks.bits import bits
from gdn_verify.feed import PARAMETERS, Feed, feed, initial_pools, inputs, pools_after
from gdn_verify.hosts import Host
from gdn_verify.paths import Outputs, Path

SEED = 20260801
MANY = replace(SMALL, max_rows=12, max_tokens=96, max_slots=64)
"""Launches of up to a dozen rows: what one, or two, would share of a kernel's work says little."""


@dataclass
class Fact:
    """What was seen of a path on a host in launches of a kind: rows compared, and how many came out otherwise.

    `alone` compares a row alone with the row among others, `elsewhere` a row with itself where live rows are reversed.
    `claimed` is what the path declares. `shows` is a case of which a row differs.
    """

    path: str
    host: str
    kind: str
    claimed: bool = False
    rows: int = 0
    alone: int = 0
    elsewhere: int = 0
    shows: list[Fed] = field(default_factory=list)

    @property
    def bitwise(self) -> bool:
        """Whether every row's bits were its own."""
        return not self.alone and not self.elsewhere

    def breaks(self, law: bool) -> bool:
        """Whether this is a fault: of a path that claims otherwise, or, by `law`, of any."""
        return not self.bitwise and (law or self.claimed)


@dataclass(frozen=True)
class InvarianceOf:
    """What to measure: `cases` launches of a kind on a path on a host."""

    path: str
    host: str
    kind: Kind
    cases: int

    def measured(self, path: Path, host: Host) -> list[Fact]:
        """The answer, in the worker."""
        return [measure(path, host, self.kind, self.cases)]


def questions(paths: Iterable[Path], hosts: Iterable[str], count: int) -> list[InvarianceOf]:
    """Every path on each of these hosts, for each kind of launch."""
    hosts = tuple(hosts)
    return [
        InvarianceOf(path.name, host, kind, count)
        for path in paths
        for host in path.hosts
        if host in hosts
        for kind in path.capabilities.kinds
    ]


def measure(path: Path, host: Host, kind: Kind, count: int, size: Size = MANY) -> Fact:
    """Launch `count` cases of `kind`, each as it is, its live rows reversed, and two of its rows alone."""
    fact = Fact(path.name, host.name, kind.value, path.conventions.batch_invariant)
    for case, shown in draw_cases(cases(path.capabilities, path.conventions, kind, size=size), count, SEED):
        alone = replace(case, batches=case.batches[:1])
        if path.refuses(alone, shown) is None:
            compare(path, host, alone, shown, fact)
    return fact


def compare(path: Path, host: Host, case: Case, shown: Presentation, fact: Fact) -> None:
    """Count the rows of one launch whose bits depend on the others."""
    live = [number for number, _ in case.batches[0].live_rows()]
    if len(case.batches[0].rows) < 2 or not live:
        return
    whole = _results(path, host, case, shown, range(len(case.batches[0].rows)))
    turned = _results(path, host, case, shown, _turned(case.batches[0]))
    chosen = {live[0], live[-1]}
    lone = {number: _results(path, host, case, shown, [number])[number] for number in sorted(chosen)}
    alone = sum(not _same(whole[number], lone[number]) for number in lone)
    elsewhere = sum(not _same(whole[number], turned[number]) for number in live)
    fact.rows, fact.alone, fact.elsewhere = fact.rows + len(live), fact.alone + alone, fact.elsewhere + elsewhere
    if (alone or elsewhere) and not fact.shows:
        fact.shows.append((case, shown))


def _turned(batch: Batch) -> list[int]:
    """The live rows in the reverse order. Others stay: many paths want padding at the end."""
    live = [number for number, _ in batch.live_rows()]
    places = dict(zip(live, reversed(live), strict=True))
    return [places.get(number, number) for number in range(len(batch.rows))]


Result = tuple[Tensor, ...]


def _results(path: Path, host: Host, case: Case, shown: Presentation, order: Sequence[int]) -> Mapping[int, Result]:
    """The bits that each live row gives in a launch of the rows `order`, from the same inputs and pools."""
    rows, starts = case.batches[0].rows, case.batches[0].query_start_loc
    batch = Batch(tuple(rows[number] for number in order))
    tokens = torch.tensor([t for number in order for t in range(starts[number], starts[number + 1])], dtype=torch.int64)
    given = inputs(case, 0, path.capabilities.span)
    rounded = {name: value if name in PARAMETERS else value[tokens] for name, value in given.items()}
    pools = initial_pools(case, path, shown)
    fed = feed(replace(case, batches=(batch,)), 0, path, shown, pools, host.device, rounded=rounded)
    outputs = path.run(fed.launch)
    host.synchronize()
    return {order[place]: result for place, result in _rows(fed, outputs)}


def _rows(fed: Feed, outputs: Outputs) -> Iterator[tuple[int, Result]]:
    """For each live row: its output, and the states that it stored."""
    starts, after = fed.batch.query_start_loc, pools_after(fed)
    for place, row in fed.batch.live_rows():
        output = outputs.o.reshape(-1, *outputs.o.shape[-2:])[starts[place] : starts[place + 1]]
        if outputs.final_state is not None:
            yield place, (_bits(output), _bits(outputs.final_state[place]))
        elif after.ssm is not None:
            yield place, (_bits(output), _bits(after.ssm[[fed.physical(slot) for slot in row.written]]))
        else:
            yield place, (_bits(output),)


def _bits(tensor: Tensor) -> Tensor:
    return bits(tensor.detach().cpu().contiguous()).clone()


def _same(one: Result, other: Result) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
