"""How a kernel becomes an operator: its schema, what stands in for it where there are no numbers, and its way out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from gdn_verify.kernels import fast
from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import Tables

_FIELDS: dict[type, tuple[str, ...]] = {
    record: tuple(field.name for field in fields(record)) for record in (Tables, Layer)
}
"""Looked up in a compiled function too, where `fields` cannot be called."""
_SCHEMA_TYPES = {"Tensor | None": "Tensor?", "float | None": "float?", "str | None": "str?"}
_WAYS_OUT = {
    "fused": "; torch's CUDA and ROCm builds bring Triton; on a processor, pip install 'gdn-verify[interpreter]' and "
    "set TRITON_INTERPRET=1 before Triton is imported"
}
# Not `torch.library.custom_op`: its bookkeeping is quadratic in the number of arguments, over a millisecond here.
_LIBRARY = torch.library.Library("gdn_verify", "DEF")


def operator(
    name: str, arguments: str, *records: type, kernels: str = "fused"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as torch.ops.gdn_verify.`name`, of these arguments followed by the records' fields.

    The function is called with the arguments and then with each record in one piece. The operator returns nothing.
    `kernels` are those that it needs, by the name in `fast`.
    """
    taken = sum(len(_FIELDS[record]) for record in records)
    schema = ", ".join([arguments, *(_schema(record) for record in records)])

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def checked(x: Tensor, *operands: Any) -> None:
            if (reason := fast.kernels_missing(x.device.type, kernels)) is not None:
                raise RuntimeError(f"torch.ops.gdn_verify.{name} cannot run: {reason}{_WAYS_OUT.get(kernels, '')}")
            own = len(operands) - taken
            function(x, *operands[:own], *_rebuilt(records, operands[own:]))

        _LIBRARY.define(f"{name}({schema}) -> ()", tags=torch.Tag.pt2_compliant_tag)
        _LIBRARY.impl(name, checked, "CompositeExplicitAutograd")
        torch.library.register_fake(f"gdn_verify::{name}", lambda *operands: None, lib=_LIBRARY)
        return function

    return register


def flattened(record: Tables | Layer) -> list[Any]:
    """The fields of a `Layer` or of `Tables`, in the order in which an operator takes them."""
    return [getattr(record, name) for name in _FIELDS[type(record)]]


def _schema(record: type) -> str:
    return ", ".join(f"{_SCHEMA_TYPES.get(str(field.type), field.type)} {field.name}" for field in fields(record))


def _rebuilt(records: Sequence[type], operands: Sequence[Any]) -> list[Any]:
    made, start = [], 0
    for record in records:
        stop = start + len(_FIELDS[record])
        made.append(record(*operands[start:stop]))
        start = stop
    return made
