"""What goes between a run and the processes that it asks: an engine, and the model's reference."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from gdn_verify.e2e.checkpoint import Checkpoint
from gdn_verify.e2e.guide import Guide
from gdn_verify.e2e.scenario import Settings
from gdn_verify.e2e.variant import Variant

if TYPE_CHECKING:
    from gdn_verify.e2e.pinpoint import Pinpointed

Prompts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Open:
    """Make an engine, or load the reference: a `checkpoint`, made under `root` where it is not there yet, or `model`.

    The answer is an `Opened`, or a `Trouble`.
    """

    settings: Settings
    root: str = ""
    checkpoint: Checkpoint | None = None
    model: str = ""
    tokenizer: bool = False


@dataclass(frozen=True)
class Opened:
    """What was opened: the implementation with its version, GDN layers of the model, tokens of its vocabulary."""

    version: str
    layers: int
    vocabulary: int
    folder: str


@dataclass(frozen=True)
class Trouble:
    """What went wrong, with the end of the traceback."""

    message: str


@dataclass(frozen=True)
class Texts:
    """Prompts to be made tokens by the model's own tokenizer; the answer is `Prompts`."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """A watched run: `launches` were looked at, of which `unknown` rows read a state from before; `wrong` is the first
    that was not right, with which the run ends. `failure` is why it showed nothing, where it came to no such end."""

    launches: int
    unknown: int
    wrong: Pinpointed | None
    failure: str = ""


@dataclass(frozen=True)
class Ask:
    """Generate, round after round. `lengths` are the tokens that each round's requests generate.

    `forced` holds, for every request of every round, the tokens to follow; `guide` what an engine drafts. `watch` looks
    at every launch, up to the first that is wrong. The answer is a `Transcript`, with `watch` a `Seen`, or a `Trouble`.
    """

    variant: Variant
    rounds: tuple[Prompts, ...]
    lengths: tuple[int, ...]
    forced: tuple[Prompts, ...] | None = None
    guide: Guide | None = None
    watch: bool = False


class Served(Protocol):
    """What a process has opened, and asks its questions of."""

    opened: Opened

    def reply(self, message: Any) -> Any:
        """The answer to an `Ask`, and of an engine to `Texts`."""


def answer(pipe: Connection, opening: Callable[[Open], Served]) -> None:
    """Answer `Open`, and then whatever is asked of what it opened, until the parent closes the pipe."""
    served: Served | None = None
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        try:
            if isinstance(message, Open):
                served = opening(message)
                pipe.send(served.opened)
            else:
                assert served is not None, "Open comes first"
                pipe.send(served.reply(message))
        except Exception:
            pipe.send(Trouble(traceback.format_exc(limit=-6).strip()))
