"""Who takes part: this project's kernels, and every peer that is installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module

from gdn_verify.bench import ours, ours_cuda
from gdn_verify.bench.contender import Contender, Missing, Setting
from gdn_verify.bench.prefill import ours as prefill_ours

PEERS = ("fla", "vllm", "aiter", "flashinfer")


def gather(settings: Sequence[Setting], every_configuration: bool) -> Iterable[Contender | Missing]:
    """Ours first, then the peers, each found or missing; a peer whose adapter fails to import is missing."""
    yield from ours.contenders(settings, every_configuration)
    yield from ours_cuda.contenders(settings, every_configuration)
    for name in PEERS:
        yield from _peer(name, "contenders")


def gather_prefill() -> Iterable[Contender | Missing]:
    """The same for a chunked prefill."""
    yield from prefill_ours.contenders()
    for name in PEERS:
        yield from _peer(name, "prefill_contenders")


def _peer(name: str, function: str) -> Iterable[Contender | Missing]:
    try:
        return list(getattr(import_module(f"gdn_verify.bench.peers.{name}"), function)())
    except Exception as error:
        return [Missing(name, f"does not import: {type(error).__name__}: {error}")]
