"""The door to the kernels: whether they can run on a tensor, what they refuse, and the calls themselves.

Nothing behind the door is imported before it is asked for, so this module imports on a machine without Triton.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from gdn_verify.kernels.operands import Operands


def _no_such_kernel(operands: Operands) -> str | None:
    return "it has no kernel for speculative rows"


@dataclass(frozen=True)
class Kernels:
    """Kernels that serve decode rows, prefill rows and, where `spec` is not None, speculative ones.

    `decode`, `prefill` and `spec` are called as `fused_decode`, `chunked_prefill` and `fused_spec_decode` are. The
    others say why they do not take these operands, or None; they read no device memory.
    """

    decode: Callable[..., Tensor]
    decode_refuses: Callable[[Operands], str | None]
    prefill: Callable[..., Tensor]
    prefill_refuses: Callable[[Operands], str | None]
    spec: Callable[..., Tensor] | None = None
    spec_refuses: Callable[[Operands], str | None] = _no_such_kernel


@cache
def kernels_missing(device_type: str, name: str = "fused") -> str | None:
    """Why the kernels called `name` cannot run on tensors of this type of device, found once a process, or None.

    Triton's can on "cuda" (NVIDIA and ROCm), and on "cpu" where its interpreter is active. Those called "cuda" can on
    NVIDIA, and on "cpu" where they are emulated; prompts need Triton's beside them, which may be missing.
    """
    if name == "cuda":
        from gdn_verify.kernels.cuda.launch import missing

        return missing(device_type)
    if find_spec("triton") is None:
        return "triton is not installed"
    import triton

    if device_type == "cpu" and not triton.knobs.runtime.interpret:
        return "the tensors are on the cpu, and Triton's interpreter is not active"
    if device_type not in ("cpu", "cuda"):
        return f"the kernels do not run on {device_type}"
    return None


@cache
def kernels(name: str) -> Kernels:
    """The kernels called "fused", "two-launch" or "cuda"; to be asked only where `kernels_missing` gives no reason."""
    if name == "cuda":
        from gdn_verify.kernels.cuda import decode, spec

        return Kernels(
            decode.fused_decode, decode_refuses, _prefill, _prefill_refuses, spec.fused_spec_decode, spec_refuses
        )
    from gdn_verify.kernels.triton.decode import fused_decode
    from gdn_verify.kernels.triton.prefill import chunked_prefill
    from gdn_verify.kernels.triton.spec import fused_spec_decode
    from gdn_verify.kernels.two_launch import two_launch_decode

    if name == "two-launch":
        return Kernels(two_launch_decode, decode_refuses, chunked_prefill, prefill_refuses)
    return Kernels(fused_decode, decode_refuses, chunked_prefill, prefill_refuses, fused_spec_decode, spec_refuses)


def _prefill(*operands: Any, **options: Any) -> Tensor:
    from gdn_verify.kernels.cuda.prompts import chunked_prefill

    return chunked_prefill(*operands, **options)


def _prefill_refuses(operands: Operands) -> str | None:
    """Conv and norm of prompts are Triton's, and so is the recurrence where the one in CUDA C++ refuses it."""
    return kernels_missing(operands.qkvz.device.type) or prefill_refuses(operands)


def decode_refuses(operands: Operands) -> str | None:
    """Why the decode kernels do not take these operands, or None."""
    from gdn_verify.kernels.triton.checks import check_rows

    return _refusal(operands) or _raised(check_rows, operands.first_slots, operands.tables.query_start_loc)


def prefill_refuses(operands: Operands) -> str | None:
    """Why `chunked_prefill` does not take these operands, or None."""
    from gdn_verify.kernels.triton.prefill import check_prefill

    rest = operands.plain_tables, operands.packing, operands.state_order
    return _raised(check_prefill, *operands.inputs, *rest) or _outputs_refused(operands)


def spec_refuses(operands: Operands) -> str | None:
    """Why `fused_spec_decode` does not take these operands, or None."""
    from gdn_verify.kernels.triton.checks import MAX_WIDTH, check_tokens

    tables = operands.tables
    if tables.num_accepted_tokens is None:
        return "the tables have no num_accepted_tokens"
    if tables.width > MAX_WIDTH:
        return f"state_indices has {tables.width} columns; at most {MAX_WIDTH} tokens a row are taken"
    for name in ("query_start_loc", "num_accepted_tokens"):
        if not getattr(tables, name).is_contiguous():
            return f"{name} must be contiguous: call .contiguous()"
    refused = _refusal(operands, columns=operands.layer.conv_weight.shape[1] - 2 + tables.width)
    return refused or _raised(lambda: check_tokens(qkvz=operands.qkvz, ba=operands.ba))


def _refusal(operands: Operands, columns: int = 0) -> str | None:
    """What all of them refuse; a conv slot needs at least `columns` columns."""
    from gdn_verify.kernels.triton import checks

    layer, pool = operands.layer, operands.pool
    return (
        _raised(checks.check_packed, operands.qkvz, operands.ba, layer, operands.packing)
        or _raised(checks.check_pool, layer, pool, operands.state_order)
        or _raised(checks.check_conv_pool, layer, operands.conv_pool, pool.shape[0], columns)
        or _outputs_refused(operands)
    )


def _outputs_refused(operands: Operands) -> str | None:
    from gdn_verify.kernels.triton.checks import check_outputs

    return _raised(check_outputs, operands.qkvz, operands.layer, operands.output, operands.z_output)


def _raised(check: Callable[..., object], *arguments: object) -> str | None:
    """What a check says of its arguments."""
    try:
        check(*arguments)
    except ValueError as error:
        return str(error)
    return None
