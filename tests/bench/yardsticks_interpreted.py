"""The yardsticks on drawn inputs; imported in a process with the interpreter installed."""

from __future__ import annotations

from gdn_verify.bench.contender import Setting
from gdn_verify.bench.inputs import draw
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
