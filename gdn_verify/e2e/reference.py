"""transformers' own greedy output on the same weights: one sequence at a time, with the library's cache."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gdn_verify.e2e.checkpoint import gdn_modules
from gdn_verify.e2e.messages import Ask, Open, Opened, Prompts, answer
from gdn_verify.e2e.transcript import SHOWN, Request, Step, Transcript
from gdn_verify.hosts import Host

STAND_INS = ("fla", "causal_conv1d")
"""Packages whose kernels would replace the library's own functions, here as if they were not installed."""


def serve(host: Host, pipe: Connection) -> None:
    """Answer `Open` and `Ask` until the parent closes the pipe."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})
    for package in STAND_INS:
        sys.modules[package] = None  # type: ignore[assignment]
    answer(pipe, _Reference)


class _Reference:
    """A model in transformers, in the settings' type."""

    def __init__(self, asked: Open) -> None:
        import torch
        import transformers

        folder = asked.model
        if asked.checkpoint is not None:
            folder = str(asked.checkpoint.ensure(Path(asked.root)))
        dtype = getattr(torch, asked.settings.dtype)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        layers = len(gdn_modules(self.model))
        vocabulary = self.model.config.get_text_config().vocab_size
        self.opened = Opened(f"transformers {transformers.__version__}", layers, vocabulary, folder)

    def reply(self, asked: Ask) -> Transcript:
        """Greedy tokens of each request, or with `forced` those; the variant is not looked at."""
        started = time.perf_counter()
        made: list[Request] = []
        for number, prompts in enumerate(asked.rounds):
            forced: Prompts | list[None] = asked.forced[number] if asked.forced else [None] * len(prompts)
            made += [
                self._request(prompt, asked.lengths[number], tokens)
                for prompt, tokens in zip(prompts, forced, strict=True)
            ]
        return Transcript(tuple(made), seconds=time.perf_counter() - started)

    def _request(self, prompt: tuple[int, ...], count: int, forced: tuple[int, ...] | None) -> Request:
        import torch

        steps: list[Step] = []
        given, cache = torch.tensor([prompt]), None
        with torch.no_grad():
            for number in range(count):
                made = self.model(input_ids=given, past_key_values=cache, use_cache=True)
                cache = made.past_key_values
                values, tokens = torch.log_softmax(made.logits[0, -1].float(), -1).topk(SHOWN)
                step = Step(int(tokens[0]), dict(zip(tokens.tolist(), values.tolist(), strict=True)))
                token = step.best if forced is None else forced[number]
                steps.append(Step(token, step.logprobs))
                given = torch.tensor([[token]])
        return Request(prompt, tuple(steps))
