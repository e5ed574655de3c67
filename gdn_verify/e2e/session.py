"""A run's end of its processes: an engine or a reference, asked for transcripts of a scenario."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gdn_verify.e2e.checkpoint import Checkpoint
from gdn_verify.e2e.guide import Guide
from gdn_verify.e2e.messages import Ask, Open, Opened, Prompts, Seen, Texts, Trouble
from gdn_verify.e2e.scenario import Scenario, Settings
from gdn_verify.e2e.transcript import Transcript
from gdn_verify.e2e.variant import Variant
from gdn_verify.hosts import CPU, HOSTS
from gdn_verify.hosts.worker import Worker, WorkerDiedError

ENGINE = "gdn_verify.e2e.engine:serve"
READY = "gdn_verify.e2e.engine:ready"
REFERENCE = "gdn_verify.e2e.reference:serve"
REFERENCES = Variant("reference")
"""Asked of a reference, which has one core."""
PATIENCE = 900.0
"""Seconds for one answer: kernels in the interpreter are slow."""


class SessionError(RuntimeError):
    """A process could not do what it was asked; the message says which, and why."""


@dataclass(frozen=True)
class Model:
    """What is served: a tiny `checkpoint`, made under `root`, or the folder of a `local` one with its own tokenizer."""

    root: str = ""
    checkpoint: Checkpoint | None = None
    local: str = ""

    @property
    def name(self) -> str:
        """For reports."""
        return str(self.checkpoint.kind) if self.checkpoint else self.local


class Session:
    """One process with one engine or reference in it, where no other was before. Use as a context manager.

    `python` is whose packages it has; `tokenizer` whether lines are to be encoded. Raises SessionError.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        *,
        target: str = ENGINE,
        host: str = "cpu",
        python: str = sys.executable,
        folders: Sequence[str] = (),
        tokenizer: bool = False,
    ) -> None:
        self._what = f"{target.partition(':')[0].rpartition('.')[2]} of {python}"
        # Tiny models run on a processor: their engines are forked of a process that has imported vLLM. In the
        # interpreter Triton must be another's before vLLM imports it, and a driver of a card may not be forked.
        forked = model.checkpoint is not None and target == ENGINE and host == CPU.name
        made = {"ready": READY} if forked else {"bare": True}
        self._worker = Worker(HOSTS[host], target, python=python, folders=folders, **made)
        self.opened: Opened = self._answer(Open(settings, model.root, model.checkpoint, model.local, tokenizer))

    def transcript(
        self,
        scenario: Scenario,
        wanted: Variant = REFERENCES,
        forced: Transcript | None = None,
        guide: Transcript | None = None,
    ) -> Transcript:
        """What a variant says in a scenario.

        With `forced` it follows that transcript's tokens; with `guide` the engine drafts out of that one.
        """
        answer: Transcript = self._answer(asking(scenario, wanted, self.opened.vocabulary, forced, guide))
        return answer

    def watched(self, scenario: Scenario, wanted: Variant, guide: Transcript | None = None) -> Seen:
        """The same, every launch looked at up to the first that is wrong, of which a case is made."""
        asked = asking(scenario, wanted, self.opened.vocabulary, guide=guide)
        answer: Seen = self._answer(replace(asked, watch=True))
        return answer

    def encoded(self, lines: Sequence[str]) -> Prompts:
        """Each line's tokens, by the model's own tokenizer."""
        answer: Prompts = self._answer(Texts(tuple(lines)))
        return answer

    def _answer(self, message: Open | Ask | Texts) -> Any:
        try:
            self._worker.send(message)
            answer = self._worker.receive(PATIENCE)
        except WorkerDiedError as death:
            raise SessionError(f"{self._what}: {death}") from None
        if isinstance(answer, Trouble):
            raise SessionError(f"{self._what}: {answer.message}")
        return answer

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()


def asking(
    scenario: Scenario,
    wanted: Variant,
    vocabulary: int,
    forced: Transcript | None = None,
    guide: Transcript | None = None,
) -> Ask:
    """The message that asks for a scenario."""
    rounds = scenario.prompts(vocabulary)
    lengths = [asked.generate for asked in scenario.rounds]
    if size := scenario.most:
        lengths = [length for length, prompts in zip(lengths, rounds, strict=True) for _ in prompts[::size]]
        rounds = tuple(prompts[at : at + size] for prompts in rounds for at in range(0, len(prompts), size))
    follow = None
    if forced is not None:
        said = iter(forced.requests)
        follow = tuple(tuple(next(said).tokens for _ in prompts) for prompts in rounds)
    known = None if guide is None else Guide(tuple((each.prompt, each.tokens) for each in guide.requests))
    return Ask(wanted, rounds, tuple(lengths), follow, known)
