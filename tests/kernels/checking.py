"""Compares what a launch left with the reference: values within float32 noise and one output ulp, the rest in bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import reference
from .launches import Launch, same_bits

NOISE = 4e-6
"""Some 30 float32 roundings."""


def wide(x: Tensor) -> reference.Array:
    return x.detach().double().numpy()


def assert_rounded(actual: Tensor, expected: reference.Array, name: str, floor: float = 1e-3) -> None:
    """`actual` is `expected` up to float32 noise and one rounding to its dtype.

    The noise is relative to the largest value along the last axis plus `floor`, the size of what may cancel. Half a
    spacing of the dtype comes on top: near a tie the noise may choose the side, and no more.
    """
    row = np.abs(expected).max(axis=-1, keepdims=True) if expected.size else 0.0
    info = torch.finfo(actual.dtype)
    rounding = 0.0 if actual.dtype == torch.float32 else info.eps / 2 * (np.abs(expected) + info.smallest_normal)
    bound = NOISE * (row + floor) + rounding
    error = np.abs(wide(actual) - expected)
    assert (error <= bound).all(), f"{name}: error {(error / bound).max()} of what rounding explains"


def check_launch(launch: Launch) -> None:
    """Runs the launch and asks the whole contract of it, each stage fed with what the previous one left."""
    before = [x.clone() for x in launch.storage]
    conv_before, pool_before = launch.conv_pool.clone(), wide(_vk(launch.pool, launch))
    inputs = launch.qkvz.clone(), launch.ba.clone()
    out, z = launch.run()
    mixed = check_unpacked(launch, z)
    check_conv(launch, mixed, conv_before)
    check_recurrence(launch, pool_before)
    check_norm(launch, out, z)
    check_untouched(launch, before, inputs)


def live_tokens(launch: Launch) -> list[int]:
    return [t for row in launch.live for t in range(row.start, row.start + row.length)]


def _vk(pool: Tensor, launch: Launch) -> Tensor:
    return pool if launch.state_order == "VK" else pool.transpose(-1, -2)


def check_unpacked(launch: Launch, z: Tensor) -> reference.Array:
    mixed, expected, _, _ = reference.unpack(wide(launch.qkvz), wide(launch.ba), *launch.layer.geometry, launch.packing)
    np.testing.assert_array_equal(wide(z), expected)
    return mixed


def check_conv(launch: Launch, mixed: reference.Array, before: Tensor) -> None:
    layer, live = launch.layer, launch.live
    bias = None if layer.conv_bias is None else wide(layer.conv_bias)
    y, after = reference.conv(mixed, wide(layer.conv_weight), bias, wide(before), live, layer.conv_activation)
    assert_rounded(launch.stages["conv"], y, "conv", floor=1.0)
    stored = torch.from_numpy(after).to(launch.conv_pool.dtype)
    same = torch.equal(launch.conv_pool.nan_to_num(nan=7.0), stored.nan_to_num(nan=7.0))
    assert same, "conv state is not a copy of the inputs"


def check_recurrence(launch: Launch, pool: reference.Array) -> None:
    layer, stages, at = launch.layer, launch.stages, live_tokens(launch)
    H, HV, K, V = layer.geometry
    _, _, b, a = reference.unpack(wide(launch.qkvz), wide(launch.ba), H, HV, K, V, launch.packing)
    g, beta = reference.gates(a[at], b[at], wide(layer.A_log), wide(layer.dt_bias), layer.beta_scale)
    assert_rounded(stages["g"][at], g, "g")
    assert_rounded(stages["beta"][at], beta, "beta")
    y = wide(stages["conv"])
    q, k = y[:, : H * K].reshape(-1, H, K), y[:, H * K : 2 * H * K].reshape(-1, H, K)
    v = y[:, 2 * H * K :].reshape(-1, HV, V)
    scale = K**-0.5 if layer.scale is None else layer.scale
    assert_rounded(stages["q_hat"], reference.unit(q, scale), "q_hat")
    assert_rounded(stages["k_hat"], reference.unit(k), "k_hat")
    operands = (wide(stages[name]) for name in ("q_hat", "k_hat", "g", "beta"))
    q, k, g, beta = operands
    o, stored = reference.delta(q, k, v, g, beta, pool, launch.live)
    # The rows of o and h may cancel: their noise is that of the largest state they come from.
    size = max([1.0, *(float(np.abs(h).max()) for h in stored.values()), *_initial_sizes(launch, pool)])
    assert_rounded(stages["o"], o, "o", floor=size)
    for slot, h in stored.items():
        assert_rounded(_vk(launch.pool, launch)[slot], h, f"state {slot}", floor=size)


def _initial_sizes(launch: Launch, pool: reference.Array) -> list[float]:
    return [float(np.abs(pool[row.read]).max()) for row in launch.live if row.read is not None]


def check_norm(launch: Launch, out: Tensor, z: Tensor) -> None:
    layer, at = launch.layer, live_tokens(launch)
    expected = np.zeros(out.shape)
    o = wide(launch.stages["o"])[at]
    expected[at] = reference.norm(o, wide(z)[at], wide(layer.norm_weight), layer.norm_eps, layer.norm_activation)
    assert_rounded(out, expected, "out")
    padded = [t for t in range(len(out)) if t not in at]
    for name, x in (("conv", launch.stages["conv"]), ("o", launch.stages["o"]), ("out", out)):
        assert (x[padded] == 0).all(), f"{name} of padded tokens is not zero"


def check_untouched(launch: Launch, before: list[Tensor], inputs: tuple[Tensor, Tensor]) -> None:
    """Slots no live row writes, and the gaps between slots, keep their bytes; so do the inputs."""
    written = {s for row in launch.live for s in row.writes.values()}, {row.conv_write for row in launch.live}
    for storage, old, slots, pool in zip(
        launch.storage, before, (written[1], written[0]), (launch.conv_pool, launch.pool), strict=True
    ):
        size = pool[0].numel()
        for slot in range(len(old)):
            first = size if slot in slots else 0
            assert same_bits(storage[slot, first:], old[slot, first:]), f"slot {slot} or the gap after it changed"
    assert same_bits(launch.qkvz, inputs[0])
    assert same_bits(launch.ba, inputs[1])
