"""What a kernel is specialised for beside how it is cut: the layer's options, types, and what addresses allow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gdn_verify.kernels.cuda.config import WORD, Sizes
from gdn_verify.kernels.fallback import Layer


class Options(NamedTuple):
    """Constants and types of a kernel's source, by their names there; a type of what is not there is any."""

    W: int
    NORM: bool
    TAPS_IN_WORD: bool
    TX: torch.dtype
    TBa: torch.dtype
    TWeight: torch.dtype
    TBias: torch.dtype
    TRate: torch.dtype
    TShift: torch.dtype
    TConv: torch.dtype
    TState: torch.dtype
    TNorm: torch.dtype
    TOut: torch.dtype


def options_of(qkvz: Tensor, ba: Tensor, layer: Layer, conv_pool: Tensor, pool: Tensor, output: Tensor) -> Options:
    """Those of a launch."""
    weight, bias, norm = layer.conv_weight, layer.conv_bias, layer.norm_weight
    width = weight.shape[1] * weight.element_size()
    return Options(
        weight.shape[1],
        norm is not None,
        width in (4, 8, 16) and weight.data_ptr() % width == 0,
        qkvz.dtype,
        ba.dtype,
        weight.dtype,
        weight.dtype if bias is None else bias.dtype,
        layer.A_log.dtype,
        layer.dt_bias.dtype,
        conv_pool.dtype,
        pool.dtype,
        weight.dtype if norm is None else norm.dtype,
        output.dtype,
    )


def sizes_of(layer: Layer, pool: Tensor, state_order: str) -> Sizes:
    """The state's sizes; `word` is what its address, its slots' stride and its rows allow."""
    H, HV, K, V = layer.geometry
    size = pool.element_size()
    kv = state_order == "KV"
    word = WORD
    while (pool.data_ptr() | pool.stride(0) * size | (V if kv else K) * size) % word:
        word //= 2
    return Sizes(H, HV, K, V, size, kv, word)
