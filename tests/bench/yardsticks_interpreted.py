"""The yardsticks on drawn inputs; imported in a process with the interpreter installed."""

from __future__ import annotations

from gdn_verify.bench.contender import Setting
from gdn_verify.bench.inputs import draw
from gdn_verify.bench.prefill import inputs as prefill
from gdn_verify.bench.prefill import yardsticks as prefill_yardsticks
from gdn_verify.bench.yardsticks import yardsticks
from gdn_verify.cases.contract import ConvLayout, DType, Geometry, StateOrder


def changes(num_spec: int, state: DType) -> dict[str, str]:
    """By yardstick, what is wrong with the pool after its launch, "" if nothing."""
    setting = Setting(Geometry(1, 3, 16, 16, num_spec=num_spec), 3, state)
    return {yardstick.name: _change(yardstick, setting) for yardstick in yardsticks()}


def _change(yardstick, setting: Setting) -> str:  # type: ignore[no-untyped-def]
    inputs = draw(setting, "cpu", 3, StateOrder.VK, ConvLayout.D_CONTIGUOUS)
    expected, table = inputs.pool.clone(), inputs.state_indices.reshape(3, -1).tolist()
    if yardstick.name != "null":
        for row, slots in enumerate(table):
            accepted = 1 if inputs.num_accepted_tokens is None else int(inputs.num_accepted_tokens[row])
            expected[slots] = -inputs.pool[slots[accepted - 1]]
    yardstick.prepare(inputs)()
    wrong = (inputs.pool != expected).flatten(1).any(1).nonzero().flatten().tolist()
    return f"slots {wrong} differ" if wrong else ""


def prefill_changes(fresh: bool) -> dict[str, str]:
    """The same of a prefill's yardsticks: states negated, or written where there are none, and v passed on to out."""
    setting = Setting.prefill(Geometry(2, 4, 16, 16), (300, 7, 33), DType.BF16, fresh)
    return {yardstick.name: _passed(yardstick, setting) for yardstick in prefill_yardsticks.yardsticks()}


def _passed(yardstick, setting: Setting) -> str:  # type: ignore[no-untyped-def]
    inputs = prefill.draw(setting, "cpu", 3, StateOrder.VK)
    states, out, slots = inputs.pool.clone(), inputs.out.clone(), inputs.state_indices.long()
    if yardstick.name != "null":
        states[slots] = 0.5 if setting.fresh else -inputs.pool[slots]
        out = inputs.v
    yardstick.prepare(inputs)()
    wrong = {"states": inputs.pool != states, "out": (inputs.out != out) & ~(inputs.out.isnan() & out.isnan())}
    return ", ".join(f"{name} differ" for name, places in wrong.items() if places.any())
