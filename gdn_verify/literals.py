"""Numbers, tensors and the arguments of a call as Python source that a person can read, exact to the last bit."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum

import torch
from torch import Tensor

from gdn_verify.calls import key

ALIGNED = 16
"""Bytes: what lies at multiples of them is copied by the widest loads, and allocations begin there."""
LISTED = 64
"""Numbers that are written out; more are base64, unless all are the same."""


def number(value: float, dtype: torch.dtype) -> str:
    """The shortest decimal that is this number in `dtype`."""
    if value != value or value in (float("inf"), float("-inf")):
        return "nan" if value != value else "inf" if value > 0 else "-inf"
    for digits in range(1, 18):
        text = f"{value:.{digits}g}"
        if float(torch.tensor(float(text), dtype=dtype)) == value:
            return text if any(mark in text for mark in ".en") else f"{text}."
    raise AssertionError(f"{value!r} has no decimal")


def _listed(value: object, dtype: torch.dtype) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_listed(item, dtype) for item in value)}]"
    if isinstance(value, bool) or not isinstance(value, float):
        return repr(value)
    return number(value, dtype)


def dtype_name(dtype: torch.dtype) -> str:
    """ "torch.float32" as it is written."""
    return str(dtype)


def tensor(value: Tensor) -> str:
    """An expression for a dense tensor of these bits: `torch.full`, a list, or `raw(...)` of a script's prelude."""
    value = value.detach().cpu().contiguous()
    shape, dtype, numbers = tuple(value.shape), dtype_name(value.dtype), value.flatten().tolist()
    if numbers and all(item == numbers[0] for item in numbers) and len(numbers) > 4:
        return f"torch.full({shape}, {_listed(numbers[0], value.dtype)}, dtype={dtype})"
    if not numbers:
        return f"torch.empty({shape}, dtype={dtype})"
    if len(numbers) <= LISTED:
        return f"torch.tensor({_listed(value.tolist(), value.dtype)}, dtype={dtype})"
    packed = base64.b64encode(bytes(value.flatten().view(torch.uint8).tolist())).decode()
    return f'raw("{packed}", {shape}, {dtype})'


@dataclass
class Names:
    """Tensors that a script has made so far, with their names, and the imports that it needs."""

    roots: list[tuple[str, Tensor]] = field(default_factory=list)
    bits: dict[str, Tensor] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    imports: dict[str, None] = field(default_factory=dict)
    apart: bool = False
    """Whether each tensor lies in memory of its own, with room around it."""

    def make(self, name: str, like: Tensor, bits: Tensor) -> str:
        """A line that makes a tensor with these bits, laid out as `like` is; its name."""
        made, ahead = tensor(bits), like.data_ptr() % ALIGNED // like.element_size()
        dense = like.is_contiguous() and not ahead and not self.apart
        laid = f"put({made}, {tuple(like.stride())}{f', {ahead}' if ahead else ''})"
        self.lines.append(f"{name} = {made}.to(device)" if dense else f"{name} = {laid}")
        self.roots.append((name, like))
        self.bits[name] = bits
        return name

    def holding(self, value: Tensor) -> str:
        """A tensor that was made with these bits, whatever its layout; "" if there is none."""
        alike = (name for name, made in self.bits.items() if same_bits(made.cpu(), value.cpu()))
        return next(alike, "")

    def take(self, name: str, result: Tensor) -> None:
        """A tensor that a call gave back."""
        self.roots.append((name, result))

    def expression(self, value: object, before: Mapping[tuple[int, tuple[int, ...]], Tensor], hint: str) -> str:
        """An argument as source; a tensor that has no name yet is made first, under the name `hint`."""
        if isinstance(value, Tensor):
            return self.named(value) or self.make(self._free(hint), value, before[key(value)])
        if isinstance(value, Enum):
            return repr(value.value)
        if isinstance(value, torch.dtype):
            return dtype_name(value)
        if isinstance(value, (list, tuple)):
            items = [self.expression(item, before, hint) for item in value]
            return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
        if hasattr(value, "__dataclass_fields__"):
            return self._dataclass(value, before)
        return repr(value)

    def _dataclass(self, value: object, before: Mapping[tuple[int, tuple[int, ...]], Tensor]) -> str:
        kind = type(value)
        self.imports[f"from {kind.__module__} import {kind.__qualname__}"] = None
        told = []
        for each in fields(kind):  # type: ignore[arg-type]
            item = getattr(value, each.name)
            usual = each.default is not MISSING and not isinstance(item, Tensor) and item == each.default
            if not usual:
                told.append(f"{each.name}={self.expression(item, before, each.name)}")
        return f"{kind.__qualname__}({', '.join(told)})"

    def named(self, value: Tensor) -> str:
        """A tensor as it is called, or as a view of one that has a name; "" if there is none."""
        for name, root in self.roots:
            if key(root) == key(value) and root.stride() == value.stride() and root.dtype == value.dtype:
                return name
        for name, root in self.roots:
            if root.dtype == value.dtype and root.numel() and value.numel() and _within(root, value):
                ahead = (value.data_ptr() - root.data_ptr()) // value.element_size()
                at = f"{name}.storage_offset()" + (f" + {ahead}" if ahead else "")
                return f"{name}.as_strided({tuple(value.shape)}, {tuple(value.stride())}, {at})"
        return ""

    def _free(self, hint: str) -> str:
        taken = {name for name, _ in self.roots}
        numbered = (hint if not n else f"{hint}{n}" for n in range(len(taken) + 1))
        return next(name for name in numbered if name not in taken)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two dense tensors on the processor are of one type and shape, bit for bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return not one.numel() or torch.equal(*(x.contiguous().view(torch.uint8) for x in (one, other)))


def _within(root: Tensor, value: Tensor) -> bool:
    first, last = root.data_ptr(), root.data_ptr() + _reach(root)
    return first <= value.data_ptr() and value.data_ptr() + _reach(value) <= last


def _reach(value: Tensor) -> int:
    """Bytes from a tensor's first element past its last."""
    return (sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True)) + 1) * value.element_size()
