"""A stand-in for an engine: a scheduler that cuts prompts, one layer, and an output that its states decide.

It has no model and no vLLM. Tokens become inputs by a table of random numbers, a layer of small heads runs whatever
core is in place, and the next token is read off its output. Requests share a small pool of slots, which are used again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gdn_verify.cases.case import Batch, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry, Options
from gdn_verify.e2e.account import Seat, Turn
from gdn_verify.e2e.handed import tables_of
from gdn_verify.e2e.launches import KV
from gdn_verify.e2e.seam import Call, Core, Seam, Watcher
from gdn_verify.e2e.transcript import SHOWN, Request, Step
from gdn_verify.paths.base import Launch

LAYER = "layers.0.linear_attn"
VOCABULARY = 64
SLOTS = 9


def _no_other_core(call: Call) -> None:
    raise AssertionError("a stand-in has no core of its own")


@dataclass
class _Request:
    name: str
    tokens: list[int]
    prompt: int
    slot: int
    done: int = 0
    forced: Sequence[int] | None = None
    steps: list[Step] = field(default_factory=list)

    def say(self, logits: Tensor) -> None:
        """The next token: the likeliest, or the one to follow."""
        values, tokens = torch.log_softmax(logits, -1).topk(SHOWN)
        seen = dict(zip(tokens.tolist(), values.tolist(), strict=True))
        token = int(tokens[0]) if self.forced is None else self.forced[len(self.steps)]
        self.steps.append(Step(token, seen))
        self.tokens.append(token)


@dataclass
class ToyEngine:
    """Requests in turns of at most `budget` tokens, decode steps first, as vLLM's scheduler does."""

    geometry: Geometry = field(default_factory=lambda: Geometry(2, 4, 16, 16))
    budget: int = 8
    seam: Seam = field(default_factory=Seam)
    own: Core = _no_other_core
    asked: int = 0
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        g, source = self.geometry, torch.Generator().manual_seed(3)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=source)

        self.x, self.a, self.b = normal(VOCABULARY, g.D), normal(VOCABULARY, g.HV) - 3.0, normal(VOCABULARY, g.HV)
        self.parameters = {"conv_weight": 0.5 * normal(g.D, g.W), "A_log": normal(g.HV), "dt_bias": normal(g.HV)}
        self.head = normal(g.HV * g.V, VOCABULARY)
        self.ssm, self.conv = normal(SLOTS, g.HV, g.K, g.V), normal(SLOTS, g.C, g.D).transpose(1, 2)

    def generate(
        self, prompts: Sequence[Sequence[int]], count: int, core: Core, watcher: Watcher | None = None
    ) -> list[list[int]]:
        """Tokens that follow each prompt."""
        self.seam.begin(core, watcher, 1)
        return [list(request.tokens) for request in self.round(prompts, count)]

    def round(
        self, prompts: Sequence[Sequence[int]], count: int, forced: Sequence[Sequence[int]] | None = None
    ) -> list[Request]:
        """Requests that generate so many tokens, on the core in place; with `forced` along those."""
        requests = [_Request(self._name(), list(p), len(p), n + 1) for n, p in enumerate(prompts)]
        for request, tokens in zip(requests, forced or (), strict=False):
            request.forced = tokens
        while waiting := [r for r in requests if len(r.tokens) < r.prompt + count]:
            self._turn(waiting)
        return [Request(tuple(r.tokens[: r.prompt]), tuple(r.steps)) for r in requests]

    def _name(self) -> str:
        self.asked += 1
        return f"r{self.asked}"

    def _turn(self, waiting: Sequence[_Request]) -> None:
        parts = list(self._parts(waiting))
        seats = tuple(
            Seat(r.name, r.done, length, tuple(r.tokens[: r.done + length]), r.prompt, new=r.done == 0)
            for r, length in parts
        )
        self.seam.turned(Turn(seats))
        launch = self._launch(parts)
        call = Call(LAYER, launch, lambda: self.own(call))
        self.seam.called(call)
        ends = launch["query_start_loc"][1:].tolist()
        for (request, length), end in zip(parts, ends, strict=True):
            request.done += length
            if request.done == len(request.tokens):
                request.say(launch["out"][end - 1].flatten().float() @ self.head)

    def _parts(self, waiting: Sequence[_Request]) -> Iterator[tuple[_Request, int]]:
        left = self.budget
        for request in sorted(waiting, key=lambda r: r.done < r.prompt):
            if length := min(left, len(request.tokens) - request.done):
                left -= length
                yield request, length

    def _launch(self, parts: Sequence[tuple[_Request, int]]) -> Launch:
        rows = tuple(Row(length, (r.slot,), fresh=r.done == 0) for r, length in parts)
        tokens = [t for r, length in parts for t in r.tokens[r.done : r.done + length]]
        g = self.geometry
        tensors = {
            "mixed_qkv": self.x[tokens].to(self.dtype), "a": self.a[tokens].to(self.dtype),
            "b": self.b[tokens].to(self.dtype),
            **self.parameters, "ssm_pool": self.ssm, "conv_pool": self.conv,
            "out": torch.zeros(len(tokens), g.HV, g.V, dtype=self.dtype), **tables_of(rows, g.S),
        }  # fmt: skip
        dtypes = DTypes(activation=DType(str(self.dtype).removeprefix("torch.")))
        return Launch(g, dtypes, Options(), Batch(rows), KV, tensors)
