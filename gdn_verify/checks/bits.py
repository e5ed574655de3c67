"""What two launches of the same rows left, compared bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gdn_verify._arena_layout import CARRIERS
from gdn_verify.feed import Feed
from gdn_verify.paths.base import Outputs


@dataclass(frozen=True)
class Left:
    """A copy of one tensor that a launch left, cut down to what it owes.

    `where` says which token, row or slot a leading index of `values` stands for.
    """

    name: str
    values: Tensor
    where: Tensor


def left(fed: Feed, outputs: Outputs) -> list[Left]:
    """The outputs of live tokens, final states of live rows, and both pools whole; on the device of the launch."""
    tokens = torch.from_numpy(fed.live_tokens)
    rows = torch.tensor([number for number, _ in fed.batch.live_rows()], dtype=torch.int64)
    found = [("o", outputs.o, tokens)]
    if "z_out" in fed.launch.tensors:
        found.append(("z_out", fed.launch["z_out"], tokens))
    if outputs.final_state is not None:
        found.append(("final_state", outputs.final_state, rows))
    for pool in ("ssm_pool", "conv_pool"):
        if pool in fed.launch.tensors:
            found.append((pool, fed.launch[pool], torch.arange(len(fed.launch[pool]))))
    return [Left(name, tensor.detach()[where.to(tensor.device)], where) for name, tensor, where in found]


def differences(expected: list[Left], got: list[Left], words: tuple[str, str]) -> Iterator[str]:
    """A sentence for each tensor of both whose bits differ; `words` says where the two come from, `got` first.

    Raises ValueError for the same tensor in two shapes: nothing is broadcast.
    """
    others = {one.name: one for one in got}
    for one in expected:
        if one.name in others:
            yield from _difference(one, others[one.name].values, words)


def _difference(expected: Left, got: Tensor, words: tuple[str, str]) -> Iterator[str]:
    if expected.values.shape != got.shape:
        raise ValueError(f"{expected.name} has shape {tuple(got.shape)}, expected {tuple(expected.values.shape)}")
    differs = bits(expected.values) != bits(got)
    if not differs.any():
        return
    first = tuple(differs.nonzero()[0].tolist())
    place = [int(expected.where[first[0]]), *first[1:]]
    yield (
        f"{expected.name}{place} is {got[first].item()} {words[0]}, {expected.values[first].item()} {words[1]}"
        f" ({int(differs.sum())} elements differ)"
    )


def bits(x: Tensor) -> Tensor:
    """`x` seen as integers of its width: a view, through which `x` can be written."""
    return x.view(CARRIERS[x.element_size()])
