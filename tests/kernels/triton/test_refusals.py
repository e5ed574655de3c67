"""Operands that do not fit are refused before a launch, by an error that names the argument.

No interpreter is installed and no card is here: what is not refused fails in another way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gdn_verify.emulator.stretch import stretch

from .problems import Problem
from .situations import DRAFTS

pytest.importorskip("triton")
Operands = dict[str, Any]
Change = Callable[[Tensor], Any]


def given(kernel: str) -> Operands:
    """The keywords of a legal call."""
    problem = replace(DRAFTS if kernel == "spec" else Problem(), starts=True, bias=True)
    on = problem.buffers()
    tables, shape = on.tables, (problem.num_tokens, problem.D)
    made: Operands = {"layer": on.layer, "state_indices": tables.state_indices}
    made["query_start_loc"] = on.query_start_loc
    if kernel in ("decode", "spec", "conv"):
        made |= {"qkvz": on.qkvz.view, "conv_pool": on.conv_pool.view, "z_output": on.z_output.view}
    if kernel in ("decode", "spec", "delta"):
        made |= {"ba": on.ba.view, "pool": on.pool.view, "output": on.output.view, "state_order": "VK"}
    if kernel in ("conv", "delta"):
        made["mixed_qkv"] = torch.zeros(shape)
    if kernel in ("decode", "spec"):
        made["tickets"] = torch.zeros(problem.slots, problem.H, dtype=torch.int64)
    if kernel == "spec":
        made |= {"num_accepted_tokens": tables.num_accepted_tokens, "spec_rows": torch.ones(4, dtype=torch.bool)}
    return made | {"packing": "flat"}


def call(kernel: str, operands: Operands) -> None:
    """The kernel's function, all operands by name."""
    from gdn_verify.kernels.triton import decode, spec, two_launch

    functions = {
        "decode": decode.fused_decode, "spec": spec.fused_spec_decode, "conv": two_launch.conv_update,
        "delta": two_launch.delta_update,
    }  # fmt: skip
    functions[kernel](**operands)


def columns_apart(x: Tensor) -> Tensor:
    """The same numbers with a hole after each of the last dimension."""
    return torch.stack([x, x], -1)[..., 0]


def one_less(x: Tensor) -> Tensor:
    return x[:-1]


def channels_apart(x: Tensor) -> Tensor:
    """As far as 32 bits do not count: so it seems, and no memory is taken."""
    far = stretch(x)
    far.apparent = (far.stride(0), 2**31 // (x.shape[1] - 1) + 1, 1)
    return far


def narrower(x: Tensor) -> Tensor:
    return x[..., :-1].contiguous()


def parameter(name: str, change: Change) -> Change:
    """A layer with one parameter changed, past the checks of its construction."""

    def changed(layer: Any) -> Any:
        other = replace(layer)
        object.__setattr__(other, name, change(getattr(layer, name)))
        return other

    return changed


FITTING = ("decode", "spec", "conv", "delta")
FUSED = ("decode", "spec")
REFUSED: list[tuple[tuple[str, ...], str, Change, str]] = [
    (("decode", "spec", "conv"), "qkvz", narrower, "qkvz has shape"),
    (("decode", "spec", "conv"), "qkvz", Tensor.double, "qkvz has dtype"),
    (("decode", "spec", "conv"), "qkvz", columns_apart, "qkvz has stride"),
    (("spec",), "qkvz", stretch, "qkvz has token stride"),
    (("spec",), "ba", stretch, "ba has token stride"),
    (("decode", "spec", "delta"), "ba", narrower, "ba has shape"),
    (("decode", "spec", "delta"), "ba", one_less, "ba has "),
    (("decode", "spec", "delta"), "ba", Tensor.int, "ba has dtype"),
    (("decode", "spec", "delta"), "ba", columns_apart, "ba has stride"),
    (("decode", "spec", "delta"), "pool", lambda x: x[:, :-1], "pool has shape"),
    (("decode", "spec", "delta"), "pool", Tensor.double, "pool has dtype"),
    (("decode", "spec", "delta"), "pool", lambda x: x.transpose(-1, -2), "pool has strides"),
    (("decode", "spec", "delta"), "state_order", lambda x: "KKV", "state_order='KKV'"),
    (FITTING, "packing", lambda x: "tight", "packing='tight'"),
    (FUSED, "conv_pool", one_less, "conv_pool has shape"),
    (("decode", "spec", "conv"), "conv_pool", lambda x: x[:, 1:], "conv_pool has shape"),
    (("decode", "spec", "conv"), "conv_pool", Tensor.double, "conv_pool has dtype"),
    (("decode", "spec", "conv"), "conv_pool", lambda x: x[..., :2], "conv_pool has 2 columns"),
    (("spec",), "conv_pool", narrower, "conv_pool has 4 columns"),
    (("decode", "spec", "conv"), "conv_pool", channels_apart, "conv_pool has strides"),
    (("decode", "conv", "delta"), "state_indices", lambda x: x[:, None], "state_indices has shape"),
    (("spec",), "state_indices", lambda x: x[:, 0], "state_indices has shape"),
    (("spec",), "state_indices", lambda x: x[:, :0], "state_indices has no columns"),
    (("spec",), "state_indices", lambda x: x.repeat(1, 3), "state_indices has 9 columns"),
    (FITTING, "state_indices", Tensor.float, "state_indices has dtype"),
    (FITTING, "query_start_loc", one_less, "query_start_loc has shape"),
    (FITTING, "query_start_loc", Tensor.short, "query_start_loc has dtype"),
    (FITTING, "query_start_loc", columns_apart, "query_start_loc must be contiguous"),
    (("spec",), "num_accepted_tokens", one_less, "num_accepted_tokens has shape"),
    (("spec",), "num_accepted_tokens", Tensor.float, "num_accepted_tokens has dtype"),
    (("spec",), "num_accepted_tokens", columns_apart, "num_accepted_tokens must be contiguous"),
    (("spec",), "spec_rows", one_less, "spec_rows has shape"),
    (("spec",), "spec_rows", Tensor.int, "spec_rows has dtype"),
    (("spec",), "spec_rows", columns_apart, "spec_rows must be contiguous"),
    (FUSED, "output", one_less, "output has shape"),
    (("delta",), "output", one_less, "mixed_qkv has shape"),
    (("decode", "spec", "delta"), "output", Tensor.double, "output has dtype"),
    (("decode", "spec", "delta"), "output", columns_apart, "output has strides"),
    (("decode", "spec", "conv"), "z_output", one_less, "z_output has shape"),
    (("decode", "spec", "conv"), "z_output", Tensor.double, "z_output has dtype"),
    (("decode", "spec", "conv"), "z_output", columns_apart, "z_output has strides"),
    (("conv", "delta"), "mixed_qkv", narrower, "mixed_qkv has shape"),
    (("conv", "delta"), "mixed_qkv", one_less, "mixed_qkv has shape"),
    (("conv", "delta"), "mixed_qkv", Tensor.double, "mixed_qkv has dtype"),
    (("conv", "delta"), "mixed_qkv", columns_apart, "mixed_qkv has stride"),
    (FUSED, "tickets", one_less, "tickets has shape"),
    (FUSED, "tickets", Tensor.int, "tickets has dtype"),
    (FUSED, "tickets", columns_apart, "tickets has strides"),
    (FITTING, "layer", parameter("conv_weight", columns_apart), "conv_weight has strides"),
    (FITTING, "layer", parameter("conv_weight", lambda x: x[:, :1].contiguous()), "conv_weight has width"),
    (FITTING, "layer", parameter("conv_bias", columns_apart), "conv_bias has strides"),
    (FITTING, "layer", parameter("conv_bias", one_less), "conv_bias has shape"),
    (FITTING, "layer", parameter("A_log", columns_apart), "A_log has strides"),
    (FITTING, "layer", parameter("dt_bias", columns_apart), "dt_bias has strides"),
    (FITTING, "layer", parameter("norm_weight", columns_apart), "norm_weight has strides"),
]
TABLE = [(kernel, *rest) for kernels, *rest in REFUSED for kernel in kernels]


@pytest.mark.parametrize(
    ("kernel", "name", "change", "message"), TABLE, ids=[f"{kernel}: {text}" for kernel, _, _, text in TABLE]
)
def test_what_does_not_fit_is_refused_by_name(kernel, name, change, message):
    """One operand changed in a legal call."""
    operands = given(kernel)
    operands[name] = change(operands[name])
    with pytest.raises(ValueError, match=message):
        call(kernel, operands)


@pytest.mark.parametrize("kernel", FITTING)
def test_the_calls_that_are_changed_are_legal(kernel):
    """Without a change nothing is refused: the launch is tried, and there is nothing to launch on."""
    with pytest.raises(Exception, match="driver") as caught:
        call(kernel, given(kernel))
    assert not isinstance(caught.value, ValueError)


@pytest.mark.parametrize("splits", [0, 3, 16])
def test_a_split_that_the_tickets_cannot_count_is_refused(splits):
    """The quantum is shared out evenly to 1, 2, 4 or 8 splits only."""
    from gdn_verify.kernels.triton.config import Config, SpecConfig

    for kind in (Config, SpecConfig):
        with pytest.raises(ValueError, match=f"splits={splits} is not one of"):
            kind(splits=splits)
