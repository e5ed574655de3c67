"""Memory that a kernel's wrapper allocates and does not fill: `torch.empty` and its kin, noticed as they are called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

FACTORIES = (
    (torch, "empty"),
    (torch, "empty_like"),
    (torch, "empty_strided"),
    (torch.Tensor, "new_empty"),
    (torch.Tensor, "new_empty_strided"),
)


@contextmanager
def noticed(made: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Within the block, `made` is told of every tensor on the processor that is handed out uninitialised."""
    with ExitStack() as stack:
        for owner, name in FACTORIES:
            stack.enter_context(patch.object(owner, name, _telling(getattr(owner, name), made)))
        yield


def _telling(factory: Callable[..., torch.Tensor], made: Callable[[torch.Tensor], None]) -> Callable[..., torch.Tensor]:
    @functools.wraps(factory)
    def tell(*args: Any, **kwargs: Any) -> torch.Tensor:
        tensor = factory(*args, **kwargs)
        if type(tensor) is torch.Tensor and tensor.device.type == "cpu" and tensor.numel():
            made(tensor)
        return tensor

    return tell
