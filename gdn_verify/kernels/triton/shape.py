"""How a chunked prefill is cut into programs: `Shape`, and the one that is chosen for a chip and a launch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
from torch import Tensor

from gdn_verify.kernels.triton.target import Target

HOPPER_PROCESSORS = 132
"""Multiprocessors of an H100 or H200 SXM: what a launch is cut for where no card is asked."""

HOPPER_AHEAD = {1: 3, 2: 2}
"""Chunks in shared memory for each number of warpgroups of `hopper_scan`: what fits (211 and 178 KiB at the most)."""
MOST_AHEAD = 4
"""Of any other launch: more than any chip's shared memory holds."""
BLOCKS_OF_V = (0, 16, 32, 64)


@dataclass(frozen=True)
class Shape:
    """Tokens of a chunk, warps of either launch, chunks that the last one loads ahead, segments of a row of T tokens.

    1 segment is the whole row, in two launches; more take four (`segments`); 0 leaves it to `choose_segments`.
    `intra_registers` bounds the registers of a thread of the first launch on Nvidia; 0 leaves them to the compiler.
    With `groups`, 1 or 2, the last launch is Hopper's own (`hopper_scan`), of so many warpgroups a program. Any other
    has `block_v` rows of V a program, 16, 32 or 64; 0 for 32, and for 16 where products are of float32.
    """

    chunk: int
    intra_warps: int
    scan_warps: int
    ahead: int
    segments: int = 0
    intra_registers: int = 0
    groups: int = 0
    block_v: int = 0

    def __post_init__(self) -> None:
        least = 2 if self.groups else 1  # Hopper's scan waits for the next chunk before it frees the last one's place
        if self.groups not in (0, *HOPPER_AHEAD):
            raise ValueError(
                f"groups={self.groups}: a program of Hopper's scan has 1 or 2 warpgroups; 0 for no such scan"
            )
        if self.ahead < least or self.ahead > HOPPER_AHEAD.get(self.groups, MOST_AHEAD):
            most = HOPPER_AHEAD.get(self.groups, MOST_AHEAD)
            raise ValueError(f"ahead={self.ahead} is not from {least} to {most}, which groups={self.groups} takes")
        if self.block_v not in BLOCKS_OF_V:
            raise ValueError(f"block_v={self.block_v} is not one of {BLOCKS_OF_V}; 0 for the usual one")
        if self.segments < 0:
            raise ValueError(f"segments={self.segments} is negative; 0 leaves it to the launch, 1 cuts no row")

    def rows_of_v(self, V: int, exact: bool) -> int:
        """Rows of V in a program of the last launch, unless that is Hopper's own."""
        return min(self.block_v or (16 if exact else 32), padded(V))


def choose_shape(target: Target, KP: int, exact: bool, in_words: bool = True, V: int = 128) -> Shape:
    """What fits registers and shared memory of a chip, for KP columns of k and V of v.

    Products of float32 operands run on no tensor cores and take short chunks; so do chips whose tensor cores are fed
    from registers alone. Three chunks ahead take 185 KiB of shared memory. On Hopper launch 1 waits much, and with 128
    registers a thread four of its programs share a multiprocessor (H200: 102 µs for 8 × 1024 tokens, 111 with 168
    registers, 127 with what the compiler would take).

    `in_words`: whether q and k are copied to shared memory by 4 bytes or more. Where they are not, they pass through
    registers, and Triton 3.6 makes of 64 tokens in four warps a launch 2 that is wrong on an H200 (o off by its own
    size) and right in the interpreter; 32 tokens are right on both. See `refuse_wrong` for what else is wrong.
    """
    wide = 2 if target.amd and target.wavefront == 32 else 1
    if exact:
        return Shape(16, 8 * wide, 8 * wide, 1)
    if target.arch in ("90", "100") and KP <= 128 and in_words:
        return Shape(64, 4, 4, 3, intra_registers=128) if target.arch == "90" else Shape(64, 8, 4, 3)
    if target.arch == "90" and in_words and V > 32:  # 8 × 2048 tokens, 32 heads of 256: 1954 µs, 4757 by the last line
        return Shape(64, 4, 8, 1, block_v=64)
    if target.wavefront == 64 and KP <= 128:
        return Shape(64, 4, 4, 1)
    return Shape(32, 8 * wide, (8 if KP > 128 else 4) * wide, 1)


def refuse_wrong(shape: Shape, target: Target, in_words: bool, V: int, exact: bool) -> None:
    """Raises ValueError for a shape that is known to compute something else."""
    if target.arch != "90" or shape.chunk != 64 or shape.groups:
        return
    if shape.scan_warps == 4 and not in_words:
        raise ValueError(
            f"shape={shape}: 64 tokens in 4 warps are wrong on this chip where q and k have token strides that are no "
            "multiples of 16 elements, or heads that are none of 8; give them such, or a shape of 32 tokens"
        )
    if shape.ahead == 1 and not exact and shape.rows_of_v(V, exact) < 64:
        raise ValueError(
            f"shape={shape}: 64 tokens, none of them loaded ahead, are wrong on this chip with fewer than 64 rows of V "
            f"a program, and V={V}; use block_v=64 if V > 32, ahead=2, or a shape of 32 tokens"
        )


def choose_groups(programs: int, V: int, processors: int) -> int:
    """Warpgroups of a program of `hopper_scan`, for so many rows × value heads.

    Two share what they load; but one, in twice as many programs, is faster while all of these run at once (H200, one
    row of 32 heads: 142 against 205 µs for 8192 tokens).
    """
    if V % 128:
        return 1
    return 1 if programs * (V // 64) <= processors else 2


def moves_in_words(*operands: Tensor) -> bool:
    """Whether Triton knows of operands [T, H, K] that tokens and heads begin at multiples of 16 bytes."""
    return all(lie_in_words(x.stride(0), x.shape[2], x.data_ptr()) for x in operands)


def lie_in_words(token_stride: int, K: int, address: int = 0) -> bool:
    """The same of 16-bit operands by numbers: strides in elements, of which it asks for multiples of 16."""
    return token_stride % 16 == 0 and K % 8 == 0 and address % 16 == 0


def padded(K: int) -> int:
    """KP, a power of two that holds K."""
    return max(16, triton.next_power_of_2(K))


def processors_of(tensor: Tensor) -> int | None:
    """Multiprocessors of the card that a tensor is on; None where it is on none."""
    return _multiprocessors(tensor.device) if tensor.is_cuda else None


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
