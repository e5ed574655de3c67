"""The place in an engine where a core is exchanged, and the counts that show whose core has run.

`cpu_seam` and `gpu_seam` put it there. Per layer and kind of launch it counts what the core was given, and how often
the engine's own code ran, so that nobody takes one for the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gdn_verify.cases.case import Batch
from gdn_verify.cases.contract import Kind
from gdn_verify.e2e.account import Account, Turn, turn_of
from gdn_verify.e2e.guide import Guide
from gdn_verify.paths.base import Launch


@dataclass(frozen=True)
class Call:
    """A layer's call: its name, the launch in the contract's words, and what runs the engine's own core on it."""

    name: str
    launch: Launch
    stock: Callable[[], None]


Core = Callable[[Call], None]
Watcher = Callable[[Call, "Turn", Core], None]
"""Runs the core on a call and looks at what it did."""


NO_TURN = "no turn was announced: this is not vLLM's model runner V1 (VLLM_USE_V2_MODEL_RUNNER=0 asks for it)"


@dataclass
class Seam:
    """What is in place, and what has run since `begin`."""

    core: Core | None = None
    watcher: Watcher | None = None
    guide: Guide | None = None
    account: Account = field(default_factory=Account)
    turn: Turn | None = None
    ran: dict[str, Counter[Kind]] = field(default_factory=lambda: defaultdict(Counter))
    tokens: Counter[str] = field(default_factory=Counter)
    stock: int = 0
    lacking: set[str] = field(default_factory=set)
    raised: str = ""
    inside: bool = False
    _owners: dict[int, str] = field(default_factory=dict)

    def begin(self, core: Core, watcher: Watcher | None, spec_width: int, guide: Guide | None = None) -> None:
        """Put a core in place, and count from here; where the engine drafts, by the guide."""
        self.core, self.watcher, self.guide = core, watcher, guide
        self.account, self.ran, self.tokens = Account(spec_width=spec_width), defaultdict(Counter), Counter()
        self.stock, self.lacking, self.raised = 0, set(), ""

    def end(self) -> None:
        """From here on the engine's own core runs, uncounted: whoever calls the operator is no engine."""
        self.core, self.watcher, self.turn = None, None, None

    def turned(self, turn: Turn) -> None:
        """The model runner is about to run its layers."""
        self.turn = turn
        self.account.enter(turn)

    def called(self, call: Call) -> None:
        """A layer wants its core."""
        assert self.core is not None
        batch = call.launch.batch
        self.ran[call.name][batch.kind] += 1
        self.tokens[call.name] += batch.tokens
        try:
            if self.turn is None:
                raise RuntimeError(NO_TURN)
            if call.name == next(iter(self.ran)):
                self._recycle(batch, self.turn)
            if self.watcher is None:
                self.core(call)
            else:
                self.watcher(call, self.turn, self.core)
        except Exception as error:  # an engine does not outlive one, and others are to be asked
            self.raised = self.raised or f"{call.name} raised {type(error).__name__}: {error}"
            call.launch["out"].zero_()

    def _recycle(self, batch: Batch, turn: Turn) -> None:
        """Count the slots that a request begins in and another one has used."""
        for row, seat in zip(batch.rows, turn.seats, strict=False):
            slot = row.slots[0]
            if slot is None:
                continue
            if row.fresh and self._owners.get(slot, seat.request) != seat.request:
                self.account.events["recycled slots"] += 1
            self._owners[slot] = seat.request

    def shortcomings(self, layers: int, left: Callable[[Kind], bool] = lambda kind: False) -> Iterator[str]:
        """What shows that the core in place did not do the engine's work in all `layers`, and nobody else any of it.

        `left` tells of a kind of launch whether it is left to the engine's own core.
        """
        owed = self.account.kinds
        if not owed:
            yield "the model runner made no turn: nothing was generated"
        if len(self.ran) != layers:
            yield f"{len(self.ran)} layers called the core, of {layers}"
        for name, kinds in self.ran.items():
            if kinds != owed:
                yield f"{name} ran {_words(kinds)}, and the scheduler asked for {_words(owed)}"
            if self.tokens[name] != self.account.tokens:
                yield f"{name} was given {self.tokens[name]} tokens, of {self.account.tokens}"
        if self.lacking:
            yield f"kernels of the path that were not launched: {', '.join(sorted(self.lacking))}"
        own = layers * sum(count for kind, count in owed.items() if left(kind))
        if self.stock != own:
            yield f"the engine's own core ran {self.stock} times, and {own} were asked for"


def _words(kinds: Counter[Kind]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"


SEAM = Seam()
"""The process's own: an engine has one."""
_KEPT: list[Any] = []
"""What must live as long as the process: a torch library takes its implementations with it."""


def installed() -> bool:
    """Whether a plugin has put the seam in its place."""
    return bool(_KEPT)


def keep(thing: Any) -> None:
    """Something that the seam is made of."""
    _KEPT.append(thing)


def stock(call: Call) -> None:
    """The engine's own core."""
    call.stock()


def counted(own: Callable[..., None]) -> Callable[..., None]:
    """Code of the engine's own core, counting how often it runs; what it calls of itself belongs to it."""

    def counting(*args: Any, **kwargs: Any) -> None:
        if SEAM.inside:
            own(*args, **kwargs)
            return
        SEAM.stock, SEAM.inside = SEAM.stock + 1, True
        try:
            own(*args, **kwargs)
        finally:
            SEAM.inside = False

    return counting


def tallied(own: Callable[..., Any], event: str) -> Callable[..., Any]:
    """A function of the engine's that counts as an event of the run."""

    def counting(*args: Any, **kwargs: Any) -> Any:
        made = own(*args, **kwargs)
        SEAM.account.events[event] += 1
        return made

    return counting


def announced(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """A model runner's `_prepare_inputs` that tells of each turn."""

    def telling(runner: Any, scheduled: Any, *args: Any, **kwargs: Any) -> Any:
        made = prepare(runner, scheduled, *args, **kwargs)
        SEAM.turned(turn_of(runner, scheduled))
        return made

    return telling
