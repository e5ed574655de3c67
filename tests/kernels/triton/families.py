"""The configurations that stand for all others, and one way to launch each kernel. Imports Triton when it launches."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor

from .problems import UNWRITTEN, Buffer, Buffers, Problem

# Keywords of `Config`, for V = 24: tiles that end within V and beyond, steps, and splits that have no row at all.
DECODE: dict[str, dict[str, Any]] = {
    "chosen": {},
    "head": {"block_v": 8},
    "head, whole tile": {"block_v": 64, "lanes": 16},
    "head, late inputs": {"block_v": 16, "lanes": 16, "inputs_first": False},
    "head, 2 splits": {"splits": 2, "block_v": 8},
    "head, 4 splits": {"splits": 4, "block_v": 4, "lanes": 16},
    "head, 8 splits": {"splits": 8, "block_v": 16, "num_warps": 2},
    "key head": {"whole_key_head": True, "block_v": 16},
    "key head, late inputs": {"whole_key_head": True, "block_v": 64, "lanes": 16, "inputs_first": False},
    "key head, 2 splits": {"whole_key_head": True, "splits": 2, "block_v": 8},
    "key head, 8 splits": {"whole_key_head": True, "splits": 8, "block_v": 4, "lanes": 16},
    "stages": {"block_v": 8, "lanes": 16, "num_warps": 2, "stages": 5},
    "stages, 4 splits": {"splits": 4, "block_v": 2, "num_warps": 2, "stages": 2},
    "stages, key head": {"whole_key_head": True, "block_v": 8, "num_warps": 4, "stages": 3},
}
# Keywords of `SpecConfig`.
SPEC: dict[str, dict[str, Any]] = {
    "chosen": {},
    "1 split": {"num_warps": 4},
    "1 split, 8 lanes": {"lanes": 8},
    "2 splits": {"splits": 2, "num_warps": 4},
    "4 splits": {"splits": 4, "lanes": 8, "num_warps": 4},
    "8 splits": {"splits": 8, "num_warps": 2},
}
PLAIN, SPLIT, STAGED = "key head, late inputs", "head, 4 splits", "stages, key head"
"""One configuration of each sort, for claims that do not depend on it."""

PACKAGE = "gdn_verify.kernels.triton"
"""Where the kernels are. A test of these tests imports defective ones by the same name."""


def module(name: str) -> Any:
    """A module of the kernels' package."""
    return import_module(f"{PACKAGE}.{name}")


def configured(kind: str, keywords: dict[str, Any]) -> Any:
    """A configuration, or None for the one that is chosen."""
    return getattr(module("config"), kind)(**keywords) if keywords else None


def families(problem: Problem) -> dict[str, dict[str, Any]]:
    """The configurations of the kernel for this problem."""
    return DECODE if problem.width is None else SPEC


def operands(problem: Problem, on: Buffers) -> tuple[Any, ...]:
    """The arguments that all kernels take first."""
    return on.qkvz.view, on.ba.view, on.layer, on.conv_pool.view, on.pool.view, on.tables.state_indices


def options(problem: Problem, on: Buffers) -> dict[str, Any]:
    """The keywords that all kernels take."""
    return {
        "packing": problem.packing, "state_order": problem.state_order, "pad_slot_id": problem.pad_slot_id,
        "output": on.output.view, "z_output": on.z_output.view, "zero_pads": problem.zero_pads,
    }  # fmt: skip


def launch(problem: Problem, on: Buffers, family: str = "chosen", tickets: Tensor | None = None) -> None:
    """`fused_decode`, or `fused_spec_decode` where the problem has a width."""
    chosen = families(problem)[family]
    common = {**options(problem, on), "tickets": tickets}
    if problem.width is None:
        module("decode").fused_decode(
            *operands(problem, on), query_start_loc=on.query_start_loc, config=configured("Config", chosen), **common,
        )  # fmt: skip
        return
    module("spec").fused_spec_decode(
        *operands(problem, on), on.query_start_loc, on.tables.num_accepted_tokens, spec_rows=on.tables.spec_rows,
        config=configured("SpecConfig", chosen), **common,
    )  # fmt: skip


def mixed_buffer(problem: Problem, on: Buffers) -> Buffer:
    """Where the first of the two launches leaves the conv's output: [T, D]."""
    shape, place = (problem.num_tokens, problem.D), {"gap": problem.gap, "shift": problem.shift}
    return Buffer.make(shape, problem.activations, **place, fill=UNWRITTEN).copy(on.qkvz.view.device)


def conv_launch(problem: Problem, on: Buffers, mixed_qkv: Buffer) -> None:
    """`conv_update`."""
    module("two_launch").conv_update(
        on.qkvz.view, on.layer, on.conv_pool.view, on.tables.state_indices, mixed_qkv.view, on.z_output.view,
        query_start_loc=on.query_start_loc, packing=problem.packing, pad_slot_id=problem.pad_slot_id,
    )  # fmt: skip


def delta_launch(problem: Problem, on: Buffers, mixed_qkv: Buffer, family: str = "chosen") -> None:
    """`delta_update`."""
    chosen = options(problem, on)
    del chosen["output"], chosen["z_output"]
    module("two_launch").delta_update(
        mixed_qkv.view, on.ba.view, on.layer, on.pool.view, on.tables.state_indices, on.output.view,
        query_start_loc=on.query_start_loc, config=configured("Config", DECODE[family]), **chosen,
    )  # fmt: skip
