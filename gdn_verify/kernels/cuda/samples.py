"""Kernels that stand for all others, to be compiled alone: each configuration at the sizes that are served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gdn_verify.kernels.cuda import decode, prefill, spec
from gdn_verify.kernels.cuda.choices import configurations
from gdn_verify.kernels.cuda.chunks import CANDIDATES, ChunkPlan, Operation, chunk_plan
from gdn_verify.kernels.cuda.config import Sizes
from gdn_verify.kernels.cuda.operands import Options
from gdn_verify.kernels.cuda.plans import Plan, Source, plan_of


@dataclass(frozen=True)
class Sample:
    """One kernel in one configuration; `words` tell for which layer."""

    configuration: str
    words: str
    plan: Plan | ChunkPlan


def samples(capability: int) -> Iterator[Sample]:
    """All that a layer of Qwen3-Next, or of Qwen3.5, may launch on a chip: bfloat16, both orders of the state."""
    for HV in (32, 48):
        for state in (torch.float32, torch.bfloat16):
            for state_kv in (False, True):
                sizes = Sizes(16, HV, 128, 128, state.itemsize, state_kv)
                yield from _launched(decode.SOURCE, capability, sizes, state)
                yield from _launched(spec.SOURCE, capability, sizes, state, drafts=4)
                yield from _chunked(capability, sizes, state)


def _launched(source: Source, capability: int, sizes: Sizes, state: torch.dtype, drafts: int = 0) -> Iterator[Sample]:
    words = f"H={sizes.H} HV={sizes.HV} K={sizes.K} V={sizes.V} {'KV' if sizes.state_kv else 'VK'} state={state}"
    for config in dict.fromkeys(configurations(capability, sizes, bool(drafts))):
        yield Sample(config.name, words, plan_of(source, capability, config, sizes, _served(state), drafts))


def _chunked(capability: int, sizes: Sizes, state: torch.dtype) -> Iterator[Sample]:
    words = f"H={sizes.H} HV={sizes.HV} K={sizes.K} V={sizes.V} {'KV' if sizes.state_kv else 'VK'} state={state}"
    narrow, wide = torch.bfloat16, torch.float32
    operation = Operation(
        sizes.K, sizes.V, sizes.ratio, sizes.state_kv, True, True, narrow, wide, wide, state, narrow
    )  # fmt: skip
    for config in CANDIDATES:
        plan = chunk_plan(prefill.SOURCE, config, operation)
        if plan.fits(capability):
            yield Sample(config.name, words, plan)


def _served(state: torch.dtype) -> Options:
    rest = dict.fromkeys(("TX", "TBa", "TWeight", "TBias", "TShift", "TConv", "TNorm", "TOut"), torch.bfloat16)
    return Options(W=4, NORM=True, TAPS_IN_WORD=True, TRate=torch.float32, TState=state, **rest)
