"""Launches that stand for all others: each kernel in each configuration at the sizes that are served.

For whoever compiles without running: the wrappers are called on processor tensors while launches are captured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import Tables
from gdn_verify.kernels.triton.chunk import chunk_delta
from gdn_verify.kernels.triton.config import Config, Sizes, SpecConfig, configurations, spec_configurations
from gdn_verify.kernels.triton.conv_prefill import conv_prefill, prepare_prefill
from gdn_verify.kernels.triton.decode import fused_decode
from gdn_verify.kernels.triton.gated_norm import gated_norm
from gdn_verify.kernels.triton.shape import HOPPER_AHEAD, choose_shape
from gdn_verify.kernels.triton.spec import fused_spec_decode
from gdn_verify.kernels.triton.target import current_target
from gdn_verify.kernels.triton.two_launch import conv_update, delta_update

ROWS = 2


@dataclass(frozen=True)
class Sample:
    """One launch of one kernel in one configuration; `launch` calls the real wrapper."""

    kernel: str
    configuration: str
    launch: Callable[[], None]


@dataclass(frozen=True)
class _Operands:
    """A layer of Qwen3-Next's sizes and what a launch over `ROWS` rows of `width` tokens is given."""

    state: torch.dtype = torch.float32
    ratio: int = 2
    width: int = 1
    slots: int = ROWS + 1

    @property
    def sizes(self) -> Sizes:
        return Sizes(16, 16 * self.ratio, 128, 128, self.state.itemsize)

    @property
    def layer(self) -> Layer:
        H, HV, K, V = 16, 16 * self.ratio, 128, 128
        weight = self.tensor(2 * H * K + HV * V, 4)
        return Layer(H, HV, K, V, weight, torch.empty(HV), torch.empty(HV), norm_weight=self.tensor(V))

    def tensor(self, *shape: int) -> Tensor:
        return torch.empty(*shape, dtype=torch.bfloat16)

    @property
    def tokens(self) -> int:
        return ROWS * self.width

    @property
    def qkvz(self) -> Tensor:
        return self.tensor(self.tokens, self.layer.channels + self.sizes.HV * 128)

    @property
    def ba(self) -> Tensor:
        return self.tensor(self.tokens, 2 * self.sizes.HV)

    @property
    def output(self) -> Tensor:
        return self.tensor(self.tokens, self.sizes.HV, 128)

    @property
    def conv_pool(self) -> Tensor:
        return self.tensor(self.slots, 2 + self.width, self.layer.channels).transpose(1, 2)

    @property
    def pool(self) -> Tensor:
        return torch.empty(self.slots, self.sizes.HV, 128, 128, dtype=self.state)  # never touched: costs no memory

    @property
    def state_indices(self) -> Tensor:
        return torch.zeros(ROWS, dtype=torch.int32)


def samples() -> Iterator[Sample]:
    """Every configuration that is chosen on the current target, once for each type of state where that matters."""
    target = current_target()
    for state in (torch.float32, torch.bfloat16):
        plain = _Operands(state)
        name = str(state).removeprefix("torch.")
        for config in configurations(target, plain.sizes):
            yield Sample("gdn_decode_kernel", f"{config.name} {name}", partial(_decode, plain, config))
        drafts = _Operands(state, width=4)
        for spec in spec_configurations(target, 4, drafts.sizes):
            yield Sample("gdn_spec_kernel", f"{spec.name} S 4 {name}", partial(_spec, drafts, spec))
    plain = _Operands()
    for config in configurations(target, plain.sizes):
        yield Sample("gdn_decode_kernel", f"{config.name} after a conv of its own", partial(_delta, plain, config))
    thirds = _Operands(ratio=3)
    yield Sample("gdn_decode_kernel", f"{config.name} ratio 3", partial(_decode, thirds, config))
    # AMD's compiler takes other instructions for storages of 2 GiB and more.
    large = _Operands(slots=2**31 // (32 * 128 * 128 * 4) + 1)
    yield Sample("gdn_decode_kernel", f"{config.name} 2 GiB", partial(_decode, large, config))
    longest = _Operands(width=8)
    for spec in spec_configurations(target, 8, longest.sizes):
        yield Sample("gdn_spec_kernel", f"{spec.name} S 8", partial(_spec, longest, spec))
    for packing in ("flat", "interleaved"):
        yield Sample("gdn_conv_update_kernel", packing, partial(_conv, plain, packing))
        yield Sample("gdn_conv_prefill_kernel", packing, partial(_conv_prefill, plain, packing))
        yield Sample("gdn_conv_prefill_kernel", f"{packing}, gates and z", partial(_prepare, plain, packing))
        yield Sample("gdn_gated_norm_kernel", packing, partial(_norm, plain, packing))
    yield Sample("gdn_scan_kernel", "bfloat16", partial(_chunk, plain))  # `exact` is for checking, and may spill
    entries = torch.empty(1, 32, 128, 128)
    checkpoints = {"checkpoints": entries, "checkpoint_every": 64}
    yield Sample("gdn_scan_kernel", "bfloat16, checkpoints", partial(_chunk, plain, **checkpoints))
    shape = choose_shape(target, 128, False)
    if target.arch == "90":
        yield Sample("gdn_scan_kernel", "bfloat16, as where Hopper's is refused", partial(_chunk, plain, shape=shape))
        for groups, ahead in HOPPER_AHEAD.items():
            own = replace(shape, groups=groups, ahead=ahead)
            name = "gdn_hopper_scan_kernel"
            yield Sample(name, f"{groups} warpgroups", partial(_chunk, plain, shape=own))
            cut = partial(_chunk, plain, shape=replace(own, segments=2), **checkpoints)
            yield Sample(name, f"{groups} warpgroups, segments, checkpoints", cut)
            wide = partial(_chunk, plain, shape=own, state_order="KV", output=plain.output.float())
            yield Sample(name, f"{groups} warpgroups, KV, float32 output", wide)
    shape = replace(shape, segments=2)
    for order in ("VK", "KV"):
        yield Sample("gdn_span_kernel", f"bfloat16, {order}", partial(_chunk, plain, shape=shape, state_order=order))


def _decode(o: _Operands, config: Config) -> None:
    fused_decode(o.qkvz, o.ba, o.layer, o.conv_pool, o.pool, o.state_indices, output=o.output, config=config)


def _delta(o: _Operands, config: Config) -> None:
    mixed_qkv = o.tensor(o.tokens, o.layer.channels)
    delta_update(mixed_qkv, o.ba, o.layer, o.pool, o.state_indices, o.output, config=config)


def _conv(o: _Operands, packing: str) -> None:
    mixed_qkv = o.tensor(o.tokens, o.layer.channels)
    conv_update(o.qkvz, o.layer, o.conv_pool, o.state_indices, mixed_qkv, o.output, packing=packing)


def _spec(o: _Operands, config: SpecConfig) -> None:
    table = torch.zeros(ROWS, o.width, dtype=torch.int32)
    starts = torch.zeros(ROWS + 1, dtype=torch.int32)
    counts = torch.zeros(ROWS, dtype=torch.int32)
    fused_spec_decode(
        o.qkvz, o.ba, o.layer, o.conv_pool, o.pool, table, starts, counts, output=o.output, config=config
    )  # fmt: skip


def _plain_rows() -> Tables:
    starts, slots = torch.zeros(ROWS + 1, dtype=torch.int32), torch.zeros(ROWS, dtype=torch.int32)
    return Tables(starts, slots, has_initial_state=torch.ones(ROWS, dtype=torch.bool))


def _conv_prefill(o: _Operands, packing: str) -> None:
    conv_prefill(o.qkvz, o.layer, o.conv_pool, _plain_rows(), packing=packing)


def _prepare(o: _Operands, packing: str) -> None:
    prepare_prefill(
        o.qkvz, o.ba, o.layer, o.conv_pool, _plain_rows(), packing=packing, pad_slot_id=None, z_output=o.output
    )  # fmt: skip


def _norm(o: _Operands, packing: str) -> None:
    gated_norm(o.output, o.qkvz, o.layer, _plain_rows(), o.slots, packing=packing)


def _chunk(o: _Operands, **options: Any) -> None:
    sizes, gate = o.sizes, torch.empty(o.tokens, o.sizes.HV)
    q, k = (o.tensor(o.tokens, sizes.H, sizes.K) for _ in range(2))
    v = o.tensor(o.tokens, sizes.HV, sizes.V)
    chunk_delta(q, k, v, gate, gate, o.pool, _plain_rows(), **options)
