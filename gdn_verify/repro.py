"""A failing case as a file that needs torch and the kernel's own package alone.

It prints what is expected and what it got, and exits with 1 while the bug lives and with 0 when it is gone. The calls
are those that the path made (`calls`); the oracle stands in it in a few lines (`repro_text`); what is allowed for
rounding is this suite's budget of the case, as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from math import ceil, floor, log10
from typing import Any

import numpy as np

from gdn_verify.calls import Call, NoEntryError, key, recorded, tensors_of
from gdn_verify.cases.case import Case, Row
from gdn_verify.cases.contract import DType, PadPolicy, Stage, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.checks.question import Written, ask, stored_only, written
from gdn_verify.emulator.access import Fault
from gdn_verify.feed import PARAMETERS, Feed, feed, initial_pools, pools_after
from gdn_verify.hosts import HOSTS, Host
from gdn_verify.literals import Names, tensor
from gdn_verify.located import Found, Raised, Touched
from gdn_verify.moves import moved
from gdn_verify.oracles.compose import Array, Problem
from gdn_verify.oracles.noise import RUNS_BEFORE_ACCUSATION, expect, threshold
from gdn_verify.paths.base import Outputs, Path
from gdn_verify.repro_text import (
    AROUND,
    FILLED,
    FILLING,
    GUARD,
    LOOK,
    PUT,
    PUT_APART,
    RAW,
    caught,
    functions,
    oracle,
)
from gdn_verify.runner import rounding_of

LOGICAL = {"beta": "BETA", **{name: name.upper() for name in "qkvgabxzo"}}
"""Names of the oracle's inputs: calls have tensors by the contract's."""
NARROW = "Triton's own interpreter gets bfloat16 wrong"
STATES = ("ssm_pool", "conv_pool", "initial_state")


class Show(Enum):
    """What a script shows beside wrong values."""

    NOTHING = "nothing"
    RAISED = "what the calls raise"
    SCRATCH = "what new memory holds that is read"
    BEHIND = "what lies around tensors that is read"
    AROUND = "what is written around tensors"


def showing(found: Found | None, reads_outside: bool = False) -> Show:
    """What the script of a launch with this wrong has to show, which may be of what lies around tensors."""
    if isinstance(found, Raised):
        return Show.RAISED
    if reads_outside:
        return Show.BEHIND
    kind = found.finding.kind if isinstance(found, Touched) else ""
    if kind.startswith((Fault.WRITE_OUTSIDE, "changed ")):
        return Show.AROUND
    return Show.SCRATCH if kind.startswith(Fault.UNINITIALISED) else Show.NOTHING


def repro(
    case: Case, presentation: Presentation, path: Path, host: Host, launch: int, title: str, show: Show = Show.NOTHING
) -> str:
    """The script of one launch of a case, from the bytes that it finds there.

    Raises `calls.NoEntryError` for a path that names no entries, IndexError for a launch that the case has not, and
    what the path raises.
    """
    pools = initial_pools(case, path, presentation)
    for number in range(launch + 1):
        pools = moved(pools, case.batches[number], presentation.first_slot, case.geometry.W)
        fed = feed(case, number, path, presentation, pools, host.device)
        with recorded(path.entries) as calls:
            outputs = _outputs(path, fed, host, show is Show.RAISED and number == launch)
        pools = pools_after(fed) if path.capabilities.pool else fed.before
    if not calls:
        raise NoEntryError(f"{path.name} called none of {', '.join(path.entries)}: it must look them up when it runs")
    return _Script(fed, path, host, calls, outputs, show).text(title)


def _outputs(path: Path, fed: Feed, host: Host, raising: bool) -> Outputs:
    """What a launch gives; of one that is known to raise, the buffers that it was given."""
    try:
        outputs = path.run(fed.launch)
        host.synchronize()
    except Exception:
        if not raising:
            raise
        return Outputs(o=fed.launch["out"])
    return outputs


@dataclass
class _Script:
    fed: Feed
    path: Path
    host: Host
    calls: list[Call]
    outputs: Outputs
    show: Show = Show.NOTHING

    def text(self, title: str) -> str:
        """The whole file."""
        apart = self.show in (Show.AROUND, Show.BEHIND)
        names = Names(apart=apart)
        called = [*self._called(names)]
        body = [*names.lines, *self._inputs(names), *self._before(names)]
        if self.show is Show.RAISED:
            called = [*caught(called)]
        judged = [] if self.raised_alone else [*self._rows(names), *self._copies(names), *self._untouched(names)]
        tail = [*called, *judged]
        put = PUT_APART if apart else PUT
        used = [part for part, mark in ((put, "= put("), (RAW, 'raw("')) if any(mark in line for line in body)]
        span, package = self.path.capabilities.span, self.calls[0].entry.partition(":")[0].partition(".")[0]
        needs = f"torch and {package}" if self.place is self.host else f"torch, {package} and a card: {NARROW}"
        exits = "exits with 1 while the bug lives, with 0 when it is gone, with 2 where it cannot run"
        head = [f'"""{title}\nNeeds {needs}; {exits}."""']
        head += [f"import {name}" for name in ("base64", "os", "sys") if name != "base64" or RAW in used]
        needed = functions(self.fed.case, span)
        third = ["import torch", *([f"from torch.nn.functional import {needed}"] if needed else [])]
        filled = [FILLED] if self.show is Show.SCRATCH else []
        tail = [*([FILLING] if filled else []), *tail, *([AROUND] if self.show is Show.AROUND else [])]
        guard = [*self._variables(), GUARD.format(device=self.place.device), *self._imports(names)]
        parts = (head, third, guard, *([part] for part in (*used, *filled)), [LOOK])
        last = [*tail, 'sys.exit(bool(bad) or print("right"))']
        sections = (*parts, oracle(self.fed.case, span), body, last)
        return "\n\n".join("\n".join(line.strip("\n") for line in section) for section in sections) + "\n"

    @property
    def _narrow(self) -> bool:
        """Whether Triton's own interpreter gets the values wrong."""
        return DType.BF16 in vars(self.fed.case.dtypes).values() and self.host.name == "interpreter"

    @property
    def raised_alone(self) -> bool:
        """Whether the script tells what is raised, and no more: of values that would be wrong anyway."""
        return self._narrow and self.show is Show.RAISED

    @property
    def place(self) -> Host:
        """Where the script runs: where the launch did, but for values of bfloat16 in the interpreter."""
        return HOSTS["cuda"] if self._narrow and not self.raised_alone else self.host

    def _imports(self, names: Names) -> list[str]:
        entries = dict.fromkeys(call.entry for call in self.calls)
        found = [f"from {module} import {name}" for module, name in (entry.split(":") for entry in entries)]
        wanted: dict[str, set[str]] = {}
        for module, name in (line.removeprefix("from ").split(" import ") for line in (*found, *names.imports)):
            wanted.setdefault(module, set()).add(name)
        return [
            f"from {module} import {', '.join(sorted(each))}  # noqa: E402" for module, each in sorted(wanted.items())
        ]

    def _called(self, names: Names) -> Iterator[str]:
        """The calls, once their arguments are made: first those that the launch has, by the contract's names."""
        hints = {key(value): name for name, value in self.fed.launch.tensors.items()}
        for call in self.calls:
            for value in call.tensors:
                if key(value) in hints and not names.named(value):
                    names.make(hints[key(value)], value, call.before[key(value)])
        for number, call in enumerate(self.calls):
            told = [names.expression(value, call.before, f"given{number}") for value in call.arguments]
            told += [f"{name}={names.expression(value, call.before, name)}" for name, value in call.keywords.items()]
            for index, result in enumerate(tensors_of(call.result)):
                if not names.named(result):
                    names.take(f"result{number}" + f"[{index}]" * isinstance(call.result, tuple), result)
            yield f"result{number} = {call.entry.split(':')[1]}({', '.join(told)})"

    def _inputs(self, names: Names) -> Iterator[str]:
        """The oracle's inputs: copies of what a call is given, or apart from what they are packed into."""
        inputs = {name: value for name, value in self.fed.rounded.items() if name not in PARAMETERS}
        given = {LOGICAL[name]: names.holding(value) for name, value in inputs.items()}
        written = {LOGICAL[name]: tensor(value) for name, value in inputs.items() if not given[LOGICAL[name]]}
        for name, value in self.fed.rounded.items():
            if name in PARAMETERS and name not in dict(names.roots):  # or a call has it by this name
                yield f"{name} = {tensor(value)}"
        for found, copied in ((given, ".cpu()"), (written, "")):
            if told := {name: text for name, text in found.items() if text}:
                comma = "," * (len(told) == 1)
                values = ", ".join(told.values())
                yield f"{', '.join(told)}{comma} = (x.double(){copied} for x in ({values}{comma}))"

    def _before(self, names: Names) -> Iterator[str]:
        kept = [name for name in STATES if self._name(names, name)]
        if kept:
            copies = ", ".join(f"{self._name(names, name)}.cpu().clone()" for name in kept)
            yield f"{', '.join(f'{name}_before' for name in kept)} = {copies}"

    def _variables(self) -> Iterator[str]:
        """What packages read of the environment when they are imported."""
        wanted = {"TRITON_INTERPRET": "1"} if self.place.name == "interpreter" else {}
        for name, value in {**wanted, **self.path.environment(self.place.name)}.items():
            yield f'os.environ["{name}"] = "{value}"'

    def _name(self, names: Names, tensor_name: str) -> str:
        """A tensor of the launch as the script calls it; "" where no call was given it."""
        value = self.fed.launch.get(tensor_name)
        return "" if value is None else names.named(value)

    def _rows(self, names: Names) -> Iterator[str]:
        """What becomes of each live row: outputs, and the states that it stores."""
        convolved, told = Stage.CONV in self.path.capabilities.span, [*self._told_rows()]
        if len(told) == 1:
            yield from self._row(names, *told[0])
            return
        limits = ", ".join(_literal(self._limits.get(name, np.zeros(0))) for name in ("o", "h"))
        yield f"most_o, most_h = (torch.tensor(x, dtype=torch.float64) for x in ({limits}))"
        g, (before, turned) = self.fed.case.geometry, self._found()
        yield f"for first, last, seen, read, conv, back, stores in {told}:"
        yield f"    h = torch.zeros({g.HV}, {g.V}, {g.K}) if read is None else {before}[read]{turned}"
        if convolved:
            kept = f"conv_pool_before[conv, :, back : back + {g.W - 1}].T"
            yield f"    past = torch.zeros({g.W - 1}, {g.D}) if read is None else {kept}"
        yield f"    o, states = right(first, last, h.double(){', past.double()' if convolved else ''})"
        out = f"{self._out(names)}[first:last].double()"
        yield f'    look(f"o of tokens from {{first}} on", {out}, o, most_o[seen : seen + last - first])'
        if states := self._states(names):
            yield "    for t, slot, at in stores:"
            yield f'        look(f"h[{{slot}}]", {states}[slot]{turned}.double(), states[t], most_h[at])'

    def _row(
        self, names: Names, first: int, last: int, _: int, read: int | None, conv: int, back: int,
        stores: list[tuple[int, int, int]],
    ) -> Iterator[str]:  # fmt: skip
        """The same of the only row, without a loop."""
        g, (before, turned) = self.fed.case.geometry, self._found()
        h = f"torch.zeros({g.HV}, {g.V}, {g.K})" if read is None else f"{before}[{read}]{turned}"
        kept = f"conv_pool_before[{conv}, :, {back} : {back + g.W - 1}].T"
        past = f"torch.zeros({g.W - 1}, {g.D})" if read is None else kept
        convolved = f", {past}.double()" if Stage.CONV in self.path.capabilities.span else ""
        yield f"o, states = right({first}, {last}, {h}.double(){convolved})"
        most = self._limits
        out = f"{self._out(names)}[{first}:{last}].double()"
        yield f'look("o", {out}, o, torch.tensor({_literal(most["o"])}, dtype=torch.float64))'
        if states := self._states(names):
            for t, slot, at in stores:
                limit = f"torch.tensor({_literal(most['h'][at])}, dtype=torch.float64)"
                yield f'look("h[{slot}]", {states}[{slot}]{turned}.double(), states[{t}], {limit})'

    def _found(self) -> tuple[str, str]:
        """What held the states before, and how a slot of it becomes [HV, V, K]."""
        of = "ssm_pool" if self.path.capabilities.pool else "initial_state"
        return f"{of}_before", ".transpose(-1, -2)" if self.fed.presentation.state_order is StateOrder.KV else ""

    def _states(self, names: Names) -> str:
        """What holds the states after the launch; "" where no call was given it."""
        given = self.outputs.final_state
        return self._name(names, "ssm_pool") if given is None else names.named(given)

    def _told_rows(self) -> Iterator[tuple[Any, ...]]:
        """(first, last) token, how many live ones were before, slots read or None, accepted - 1, states stored."""
        fed, pooled, seen, at = self.fed, self.path.capabilities.pool, 0, 0
        for n, row in fed.batch.live_rows():
            first, last = fed.batch.query_start_loc[n : n + 2]
            own = [state for state in self.stored if state.row == n]
            stores = [(s.live_token - seen, fed.physical(s.slot) if pooled else n, at + i) for i, s in enumerate(own)]
            conv = row.conv_slot if row.read is None else row.read
            slots = (fed.physical(slot or 0) if pooled else n for slot in (row.read_slot, conv))
            yield first, last, seen, *(None if row.fresh else slot for slot in slots), (row.accepted or 1) - 1, stores
            seen, at = seen + last - first, at + len(own)

    def _out(self, names: Names) -> str:
        """The launch's output as the script has it: the caller's buffer, or the first result of as many numbers."""
        out = self.fed.launch["out"]
        results = (result for result in tensors_of(self.calls[-1].result) if result.numel() == out.numel())
        given = names.named(out)
        if not given and self.calls[-1].result is None:  # it raised
            return f"result{len(self.calls) - 1}.reshape({tuple(out.shape)})"
        return given or f"{names.named(next(results))}.reshape({tuple(out.shape)})"

    def _copies(self, names: Names) -> Iterator[str]:
        """What is copied bit for bit, or is zero."""
        fed, live = self.fed, self.fed.live_tokens.tolist()
        if self._name(names, "conv_pool"):
            for n, row in fed.batch.live_rows():
                if row.slots[0] is not None:
                    yield from self._conv_copy(names, n, row, fed.physical(row.slots[0]))
        if z := self._name(names, "z_out"):
            yield f'look("z", {z}[{live}], Z[{live}].to({z}.dtype))'
        padded = sorted(set(range(fed.batch.tokens + fed.batch.pad_tokens)) - set(live))
        if padded and dict(self.path.conventions.pad_outputs).get("out") is PadPolicy.ZEROS:
            out = f"{self._out(names)}[{padded}]"
            yield f'look("padding of o", {out}, torch.zeros_like({out}))'

    def _conv_copy(self, names: Names, n: int, row: Row, slot: int) -> Iterator[str]:
        """The conv's inputs that a row leaves in its slot: the last W - 1, of a draft all and those before it."""
        g, (first, last) = self.fed.case.geometry, self.fed.batch.query_start_loc[n : n + 2]
        past, back, pool = g.W - 1, (row.accepted or 1) - 1, self._name(names, "conv_pool")
        read = self.fed.physical(row.read) if row.read is not None else slot
        found = f"conv_pool_before[{read}, :, {back} : {back + past}].T"
        history = f"torch.zeros({past}, {g.D})" if row.fresh else found
        kept = "[1:]" if row.spec else f"[-{past}:]"
        width = past - 1 + last - first if row.spec else past
        made = f"torch.cat([{history}.double(), X[{first}:{last}]]){kept}.T.to({pool}.dtype)"
        yield f'look("conv_pool[{slot}]", {pool}[{slot}, :, :{width}], {made})'
        if width < g.C:
            behind = f"[{slot}, :, {width}:]"
            yield f'look("conv_pool{behind}", {pool}{behind}, conv_pool_before{behind})'

    def _untouched(self, names: Names) -> Iterator[str]:
        """Slots of a pool that no live row writes."""
        rows = [row for _, row in self.fed.batch.live_rows()]
        for pool in STATES[:2]:
            if self._name(names, pool):
                own = {
                    s for row in rows for s in (row.written if pool == "ssm_pool" else row.slots[:1]) if s is not None
                }
                others = sorted(set(range(len(self.fed.launch[pool]))) - {self.fed.physical(slot) for slot in own})
                if others:
                    made = self._name(names, pool)
                    yield f'look("{pool}, slots of nobody", {made}[{others}], {pool}_before[{others}])'

    @cached_property
    def _problem(self) -> Problem:
        return ask(self.fed, self.path.capabilities.span)

    @cached_property
    def stored(self) -> list[Written]:
        """States that the launch stores, in the order of their budgets."""
        return written(self.fed, self._problem.every_token)

    @cached_property
    def _limits(self) -> dict[str, Array]:
        """The largest error of each row, of "o" and of "h": a budget times what healthy kernels stay below."""
        fed = self.fed
        if not len(fed.live_tokens):
            return {}
        rounding = rounding_of(fed.case, fed.number, self.path, fed.presentation, self.place)
        expected = stored_only(expect(self._problem, rounding, runs=RUNS_BEFORE_ACCUSATION), self.stored)
        limit = threshold(sum(item.budget.size for item in expected.values()))
        out = "out" if Stage.NORM in self.path.capabilities.span else "o"
        own = {"o": out, "h": "h"}
        return {name: expected[of].budget * limit for name, of in own.items() if of in expected}


def _literal(limits: Array) -> str:
    """Limits with two digits, rounded up."""

    def up(x: float) -> float:
        step = 10.0 ** (floor(log10(x)) - 1) if x > 0 else 1.0
        return float(f"{ceil(x / step) * step:.2g}")

    return str(np.vectorize(up, otypes=[float])(limits).tolist())
