"""Input preparation as one kernel: packed projections to contiguous mixed_qkv, z, b and a.

`unpack` gives views, or up to six copies. Here the four results are one buffer, written once: flattened, concatenated
and sliced. Inductor would still split a concatenation into a kernel for each part, so it is told to write it as one
masked pointwise kernel. Nothing is computed, so elements travel as integers: code generators pass bfloat16 through
float32, which need not keep the bits of a NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from gdn_verify.kernels.rows import expect_dtype, expect_shape
from gdn_verify.kernels.stages import unpack

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]
Geometry = tuple[int, int, int, int]

_CARRIERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
ONE_KERNEL: dict[str, str | int | bool | Callable[..., Any]] = {"force_pointwise_cat": True}
"""Inductor's options for `rearrange`."""


def prepare(
    qkvz: Tensor,
    ba: Tensor,
    num_k_heads: int,
    num_v_heads: int,
    head_k_dim: int,
    head_v_dim: int,
    packing: str = "flat",
) -> Prepared:
    """(mixed_qkv [T, D], z [T, HV, V], b [T, HV], a [T, HV]), contiguous, bit for bit what `unpack` gives.

    `qkvz` [T, D + HV·V] and `ba` [T, 2·HV], packed as `unpack` tells, of one float dtype and any row stride. The
    results are parts of one new buffer: only mixed_qkv is sure to start at an aligned address. The first call for a
    geometry, packing, dtype size and kind of T (0, 1, more) compiles, which takes seconds and cannot be done while a
    graph is captured; T varies freely afterwards. Where `compile_missing` gives a reason, or a gradient is asked, the
    same buffer is filled by eager kernels. Raises ValueError for other shapes, dtypes or packings.
    """
    geometry = num_k_heads, num_v_heads, head_k_dim, head_v_dim
    _check(qkvz, ba, geometry, packing)
    differentiable = torch.is_grad_enabled() and (qkvz.requires_grad or ba.requires_grad)
    if differentiable or compile_missing(qkvz.device.type) is not None:
        return rearrange(qkvz, ba, geometry, packing)
    carrier = _CARRIERS[qkvz.element_size()]
    inputs = qkvz.view(carrier), ba.view(carrier)
    for x in inputs:
        torch._dynamo.maybe_mark_dynamic(x, 0)
    mixed_qkv, z, b, a = (x.view(qkvz.dtype) for x in compiled(geometry, packing)(*inputs))
    return mixed_qkv, z, b, a


def rearrange(qkvz: Tensor, ba: Tensor, geometry: Geometry, packing: str) -> Prepared:
    """What is compiled: the results of `unpack`, copied one behind the other into one buffer."""
    parts = unpack(qkvz, ba, *geometry, packing)
    pieces = torch.cat([part.flatten() for part in parts]).split([part.numel() for part in parts])
    mixed_qkv, z, b, a = (piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True))
    return mixed_qkv, z, b, a


@cache
def compiled(geometry: Geometry, packing: str) -> Callable[[Tensor, Tensor], Prepared]:
    """`rearrange` for one geometry and packing, compiled when it is first called."""

    def program(qkvz: Tensor, ba: Tensor) -> Prepared:
        return rearrange(qkvz, ba, geometry, packing)

    # Dynamo counts recompilations by code object, and remembers which integers varied by the code's name. Geometries
    # that shared these would become variables of one kernel, and past a limit not be compiled at all.
    name = "_".join(map(str, ("prepare", packing, *geometry)))
    own = FunctionType(program.__code__.replace(co_name=name), globals(), name, None, program.__closure__)
    function: Callable[[Tensor, Tensor], Prepared] = torch.compile(own, fullgraph=True, options=ONE_KERNEL)
    return function


@cache
def compile_missing(device_type: str) -> str | None:
    """Why torch.compile cannot run on this type of device, found by trying once a process; None if it can."""
    try:
        torch.compile(torch.neg, fullgraph=True)(torch.ones(2, device=device_type))
    except Exception as error:  # what a missing or broken compiler raises differs from one to the next
        return f"torch.compile does not run on {device_type}: {type(error).__name__}: {error}".splitlines()[0]
    return None


def _check(qkvz: Tensor, ba: Tensor, geometry: Geometry, packing: str) -> None:
    """Raises what `unpack` raises: within a compiled function its errors would arrive as the compiler's."""
    unpack(qkvz[:0], ba[:0], *geometry, packing)
    expect_shape("ba", ba, (qkvz.shape[0], None))
    expect_dtype("ba", ba, (qkvz.dtype,))
