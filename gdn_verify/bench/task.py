"""What a run measures, a decode or a prefill: the parts of the flow in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gdn_verify.bench import inputs as decode
from gdn_verify.bench import sizes, yardsticks
from gdn_verify.bench.contender import Contender, Setting
from gdn_verify.bench.damage import Judgement
from gdn_verify.bench.judge import judge
from gdn_verify.bench.prefill import inputs as prefill
from gdn_verify.bench.prefill import yardsticks as prefill_yardsticks
from gdn_verify.bench.prefill.judge import Judge
from gdn_verify.bench.prefill.reference import MOST
from gdn_verify.bench.yardsticks import Yardstick
from gdn_verify.cases.contract import ConvLayout, StateOrder

Layout = tuple[StateOrder, ConvLayout]
"""What of the inputs' strides a contender may ask for."""


@dataclass(frozen=True)
class Task:
    """`stack(setting, device, layers, layout)` draws layers; `touched(setting)` are the bytes of the pass `touch`."""

    layers: int
    stack: Callable[[Setting, str, int, Layout], Sequence[Any]]
    judge: Callable[[Contender, Setting, str], Judgement]
    yardsticks: Callable[[], Iterable[Yardstick]]
    touched: Callable[[Setting], int]


def _decode_stack(setting: Setting, device: str, layers: int, layout: Layout) -> Sequence[Any]:
    return [decode.draw(setting, device, seed, *layout) for seed in range(layers)]


def _prefill_stack(setting: Setting, device: str, layers: int, layout: Layout) -> Sequence[Any]:
    """All layers share the first one's query_start_loc: some implementations keep what they made of that tensor."""
    first, *others = (prefill.draw(setting, device, seed, layout[0]) for seed in range(layers))
    return [first, *(replace(layer, query_start_loc=first.query_start_loc) for layer in others)]


DECODE = Task(sizes.LAYERS, _decode_stack, judge, yardsticks.yardsticks, sizes.state_bytes)


def prefill_task(most_judged: int = MOST) -> Task:
    """With a judge of its own, which holds on to a setting's reference of so many tokens times value heads."""
    return Task(
        sizes.PREFILL_LAYERS,
        _prefill_stack,
        Judge(most_judged),
        prefill_yardsticks.yardsticks,
        lambda setting: sizes.floor_bytes(setting, sizes.RECURRENCE),
    )
