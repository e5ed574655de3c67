"""What the kernels refuse is known before they are called: the reason is the error that the call would raise."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels import fast
from gdn_verify.kernels.operands import Operands
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.tables import Row

from .test_dispatch import tiny

pytest.importorskip("triton")


def apart(x: Tensor) -> Tensor:
    """The same numbers, two elements apart along every axis."""
    wide = torch.zeros([2 * n for n in x.shape], dtype=x.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    return view.copy_(x)


def operands(rows: list[Row], **change: Any) -> Operands:
    launch = tiny(rows)
    made = Operands(launch.qkvz, launch.ba, launch.layer, launch.conv_pool, launch.pool, launch.tables)
    fields = {name: value(getattr(made, name)) if callable(value) else value for name, value in change.items()}
    return replace(made, **fields)


def with_table(name: str) -> Any:
    """A change of one index tensor."""
    return lambda tables: Tables(**{**vars(tables), name: apart(getattr(tables, name))})


DECODE = [Row(1, (3,)), Row(1, (4,))]
PREFILL = [Row(3, (3,), fresh=True), Row(1, (4,), read_slot=5)]
SPEC = [Row(2, (3, 4), accepted=1), Row(1, (5, 6), accepted=2)]
ALL = [
    {"qkvz": apart},
    {"ba": apart},
    {"pool": apart},
    {"conv_pool": lambda pool: pool[:, :, :2]},
    {"packing": "tight"},
    {"state_order": "KKV"},
    {"output": torch.zeros(9, 1, 2)},
    {"z_output": torch.zeros(3, 1, 2, dtype=torch.float64)},
    {"tables": with_table("query_start_loc")},
]


@pytest.mark.parametrize("change", ALL, ids=lambda change: next(iter(change)))
def test_the_decode_kernels_refusals(change):
    """Layouts and shapes that `fused_decode` does not take."""
    from gdn_verify.kernels.triton.decode import fused_decode

    made = operands(DECODE, **change)
    reason = fast.decode_refuses(made)
    assert reason is not None
    with pytest.raises(ValueError, match=re.escape(reason)):
        fused_decode(
            *made.inputs, made.first_slots, query_start_loc=made.tables.query_start_loc, output=made.output,
            z_output=made.z_output, **made.options,
        )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        *ALL,
        {"tables": with_table("num_accepted_tokens")},
        {"conv_pool": lambda pool: pool[:, :, :3]},
        {"tables": lambda tables: replace(tables, state_indices=tables.state_indices.repeat(1, 5))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_spec_kernels_refusals(change):
    """Those of the decode kernel, a narrow conv pool and a wide table."""
    from gdn_verify.kernels.triton.spec import fused_spec_decode

    made = operands(SPEC, **change)
    reason, tables = fast.spec_refuses(made), made.tables
    assert reason is not None
    with pytest.raises(ValueError, match=re.escape(reason)):
        fused_spec_decode(
            *made.inputs, made.slot_table, tables.query_start_loc, tables.num_accepted_tokens, output=made.output,
            z_output=made.z_output, **made.options,
        )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        *ALL,
        {"tables": with_table("has_initial_state")},
        {"tables": lambda tables: replace(tables, has_initial_state=tables.has_initial_state.int())},
        {"conv_pool": lambda pool: pool[1:]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_prefill_kernels_refusals(change):
    """Layouts and shapes that `chunked_prefill` does not take."""
    from gdn_verify.kernels.triton.prefill import chunked_prefill

    made = operands(PREFILL, **change)
    reason = fast.prefill_refuses(made)
    assert reason is not None
    with pytest.raises(ValueError, match=re.escape(reason)):
        chunked_prefill(*made.inputs, made.tables, output=made.output, z_output=made.z_output, **made.options)


def test_ordinary_operands_are_not_refused():
    """The operands that the others are changes of; slot tables may have any strides."""
    assert fast.decode_refuses(operands(DECODE)) is None
    assert fast.decode_refuses(operands(DECODE, tables=with_table("state_indices"))) is None
    for name in ("state_indices", "read_indices"):
        assert fast.prefill_refuses(operands(PREFILL, tables=with_table(name))) is None
    assert fast.prefill_refuses(operands(PREFILL)) is None
    assert fast.prefill_refuses(operands([*PREFILL, *SPEC], tables=with_table("num_accepted_tokens"))) is None
    assert fast.spec_refuses(operands(SPEC)) is None
    assert fast.spec_refuses(operands(SPEC, tables=with_table("state_indices"))) is None


@pytest.mark.parametrize(
    ("named", "starts", "tokens", "expected"),
    [
        ([True, False, True], None, 4, [True, False, True, False]),
        ([True, True, False, True], [0, 1, 1, 2, 3], 4, [True, False, True, False]),
        ([True, True], [0, 2, 3], 3, [False, False, True]),
        ([True, True, True], None, 1, [True]),
        ([], [0], 2, [False, False]),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_live_tokens_of_one_token_rows(named, starts, tokens, expected, device):
    """Rows with a slot and one token; found without asking for a value, so on a device that has none too."""
    from gdn_verify.kernels.two_launch import live_tokens

    offsets = None if starts is None else torch.tensor(starts, device=device)
    live = live_tokens(torch.tensor(named, dtype=torch.bool, device=device), offsets, tokens)
    assert live.shape == (tokens,)
    assert device == "meta" or live.tolist() == expected
