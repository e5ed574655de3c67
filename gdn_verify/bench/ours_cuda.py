"""This project's kernels in CUDA C++ as contenders: as chosen, or in every configuration that is worth a try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import gdn_verify
from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, Results, Setting
from gdn_verify.bench.ours import WHOLE, decode_only, drafts_only, layer, of_drafts
from gdn_verify.kernels.cuda import launch as launching
from gdn_verify.kernels.cuda.choices import CANDIDATES, SPEC_CANDIDATES

if TYPE_CHECKING:
    from gdn_verify.kernels.cuda.config import Config

Prepare = Callable[[Inputs], Launch]


def contenders(settings: Sequence[Setting], every_configuration: bool) -> Iterator[Contender | Missing]:
    """Those that take one of the settings; missing where there is no NVIDIA card, emulated or not."""
    if (reason := launching.missing("cuda")) is not None:
        yield Missing("gdn-verify's CUDA kernels", reason)
        return
    for contender in (*_chosen(), *(_configurations() if every_configuration else ())):
        if any(contender.refuses(setting) is None for setting in settings):
            yield contender


def _chosen() -> Iterator[Contender]:
    yield _ours("cuda-decode", _decode(None), decode_only, path="cuda-decode")
    yield _ours("cuda-spec", _drafts(None), drafts_only, path="cuda-spec")


def _configurations() -> Iterator[Contender]:
    for config in CANDIDATES:
        yield _ours(f"cuda-decode {config.name}", _decode(config), decode_only)
    for config in SPEC_CANDIDATES:
        yield _ours(f"cuda-spec {config.name}", _drafts(config), drafts_only)


def _ours(name: str, prepare: Prepare, refuses: Callable[[Setting], str | None], path: str = "") -> Contender:
    return Contender(name, gdn_verify.__version__, WHOLE, prepare, refuses, path=path)


def _decode(config: Config | None) -> Prepare:
    def prepare(inputs: Inputs) -> Launch:
        from gdn_verify.kernels.cuda.decode import fused_decode

        operands = (inputs.qkvz, inputs.ba, layer(inputs), inputs.conv_pool, inputs.pool, inputs.state_indices)
        return lambda: Results(fused_decode(*operands, output=inputs.out, config=config))

    return prepare


def _drafts(config: Config | None) -> Prepare:
    def prepare(inputs: Inputs) -> Launch:
        from gdn_verify.kernels.cuda.spec import fused_spec_decode

        operands = of_drafts(inputs)
        return lambda: Results(fused_spec_decode(*operands, output=inputs.out, config=config))

    return prepare
