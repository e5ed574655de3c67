"""How a decode launch is cut into programs, chosen by chip, number of rows and size of the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import triton

from gdn_verify.kernels.triton.target import INTERPRETER, Target

AXIS = 1 if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7) else 0
"""Where a tile has its pieces of K, so that one thread holds them all if there are rows for all threads: of two
dimensions that are alike in memory Triton deals its threads out over the first until 3.6, over the last since 3.7
(`test_contraction` sees it)."""


@dataclass(frozen=True)
class Sizes:
    """What a layer's state is made of: H, HV, K, V and the bytes of one number."""

    H: int
    HV: int
    K: int
    V: int
    itemsize: int

    @property
    def ratio(self) -> int:
        """r = HV/H."""
        return self.HV // self.H


@dataclass(frozen=True)
class Config:
    """One way to cut a launch.

    A program owns all value heads of a key head (`whole_key_head`), or one; V of each is split over `splits` programs
    and walked in tiles of `block_v` rows. `lanes` threads share a row, 16 bytes each. With `stages` the walk is a loop
    whose loads run that many tiles ahead through shared memory; 0 unrolls it. The projections are asked for while the
    slot is on its way (`inputs_first`), or after the state. What a program alone reads of a conv slot it shifts before
    the walk (`early`; never on AMD, see `decode_kernel`), or after it. `maxnreg` bounds the registers of a thread on
    NVIDIA, `waves_per_eu` asks AMD's compiler for an occupancy; 0 leaves either alone.
    """

    whole_key_head: bool = False
    splits: int = 1
    block_v: int = 64
    lanes: int = 8
    num_warps: int = 8
    stages: int = 0
    inputs_first: bool = True
    early: bool = True
    maxnreg: int = 0
    waves_per_eu: int = 0

    def __post_init__(self) -> None:
        if self.splits not in (1, 2, 4, 8):
            raise ValueError(f"splits={self.splits} is not one of 1, 2, 4, 8 (the ticket's quantum)")

    @property
    def name(self) -> str:
        """Short, for tables: "head/4 bv32 w4"."""
        unit = "key-head" if self.whole_key_head else "head"
        split = f"/{self.splits}" if self.splits > 1 else ""
        ahead = f" s{self.stages}" if self.stages else ""
        ahead += "" if self.inputs_first else " late"
        ahead += "" if self.early else " shift last"
        limits = f" r{self.maxnreg}" * bool(self.maxnreg) + f" o{self.waves_per_eu}" * bool(self.waves_per_eu)
        return f"{unit}{split} bv{self.block_v} l{self.lanes} w{self.num_warps}{ahead}{limits}"

    def constants(self, sizes: Sizes) -> Mapping[str, Any]:
        """The kernel's tile constants for these sizes; a tile never exceeds what there is of V and K."""
        return _constants(self, sizes)

    def options(self, target: Target) -> dict[str, Any]:
        """The compiler's options, those of the other vendor left out."""
        options: dict[str, Any] = {"num_warps": self.num_warps}
        if self.maxnreg and target.vendor == "cuda":
            options["maxnreg"] = self.maxnreg
        if self.waves_per_eu and target.amd:
            options["waves_per_eu"] = self.waves_per_eu
        return options


@cache
def _constants(config: Config, sizes: Sizes) -> Mapping[str, Any]:
    heads = sizes.ratio if config.whole_key_head else 1
    splits = min(config.splits, triton.next_power_of_2(sizes.V))
    block_v = min(config.block_v, triton.next_power_of_2(triton.cdiv(sizes.V, splits)))
    steps = triton.cdiv(sizes.V, splits * block_v)
    width = triton.next_power_of_2(sizes.K)
    piece = min(width, config.lanes * 16 // sizes.itemsize)
    return MappingProxyType(
        {
            "HEADS": heads,
            "SPLITS": splits,
            "STEPS": steps,
            "BV": block_v,
            "KS": width // piece,
            "KK": piece,
            "TP": triton.next_power_of_2(heads * steps),
            "RP": triton.next_power_of_2(sizes.ratio),
            "VP": triton.next_power_of_2(sizes.V),
            "STAGES": config.stages,
            "INPUTS_FIRST": config.inputs_first,
            "AXIS": AXIS,
        }
    )


@dataclass(frozen=True)
class SpecConfig:
    """One way to cut a speculative launch: V of a head over `splits` programs, each with all its rows in registers."""

    splits: int = 1
    lanes: int = 16
    num_warps: int = 8
    maxnreg: int = 0
    waves_per_eu: int = 0

    def __post_init__(self) -> None:
        if self.splits not in (1, 2, 4, 8):
            raise ValueError(f"splits={self.splits} is not one of 1, 2, 4, 8 (the ticket's quantum)")

    @property
    def name(self) -> str:
        """Short, for tables."""
        return f"spec head/{self.splits} l{self.lanes} w{self.num_warps}" + f" r{self.maxnreg}" * bool(self.maxnreg)

    def constants(self, sizes: Sizes) -> Mapping[str, Any]:
        """The kernel's tile constants for these sizes."""
        found = Config(splits=self.splits, block_v=256, lanes=self.lanes).constants(sizes)
        return {name: found[name] for name in ("SPLITS", "BV", "KS", "KK", "RP", "VP", "AXIS")}

    def options(self, target: Target) -> dict[str, Any]:
        """The compiler's options."""
        alike = Config(num_warps=self.num_warps, maxnreg=self.maxnreg, waves_per_eu=self.waves_per_eu)
        return alike.options(target)


JOINED = Config(splits=4, block_v=32, lanes=4, num_warps=4, inputs_first=False)
HEAD = Config(block_v=64, maxnreg=128)
KEY_HEAD = Config(whole_key_head=True, block_v=64, lanes=16, inputs_first=False, early=False, maxnreg=128)
STREAM_F32 = Config(block_v=8, lanes=16, num_warps=2, stages=5)
STREAM_16 = Config(block_v=16, lanes=16, num_warps=2, stages=4)

AMD_FEW = Config(block_v=32, num_warps=8)
AMD_HEAD = Config(block_v=32, num_warps=4)

# Up to so many value heads in a launch (rows · HV), this configuration; by bytes of a number of the state. Measured
# on one H200 with K = V = 128 (docs/decode.md): a split head feeds all processors when there are few heads; many
# heads stream best through small tiles that run ahead in shared memory.
NVIDIA = {
    4: (
        (64, JOINED),
        (256, HEAD),
        (384, Config(block_v=32, lanes=16, num_warps=4)),
        (768, Config(whole_key_head=True, block_v=32, lanes=16)),
        (4096, KEY_HEAD),
        (None, STREAM_F32),
    ),
    2: (
        (64, JOINED),
        (256, HEAD),
        (384, Config(block_v=64, num_warps=4)),
        (512, Config(block_v=32, lanes=16, num_warps=4, early=False)),
        (None, STREAM_16),
    ),
}
# Never measured: there was no such card. V is not split (see `decode_kernel`), and no loop needs asynchronous copies.
AMD = dict.fromkeys((2, 4), ((256, AMD_FEW), (None, AMD_HEAD)))
# One of each kind at the sizes that an interpreter can run, which pays by the program, and one that no card has: heads
# of a key head whose parts are joined, in a loop that nothing runs ahead of. Parts of an output are joined up to 6, so
# that three value heads a key head are among them in launches of one and two rows.
INTERPRETED = (
    (2, Config(whole_key_head=True, splits=2, block_v=16, stages=1)),
    (6, Config(splits=4, block_v=16)),
    (8, replace(HEAD, early=False)),
    (12, replace(KEY_HEAD, block_v=16)),
    (None, STREAM_F32),
)


@cache
def choose(target: Target, rows: int, sizes: Sizes) -> Config:
    """The configuration for a launch of `rows` rows."""
    table = _table(target, sizes)
    return next(config for limit, config in table if limit is None or rows * sizes.HV <= limit)


def configurations(target: Target, sizes: Sizes) -> tuple[Config, ...]:
    """Every configuration that `choose` can return for these sizes."""
    return tuple(config for _, config in _table(target, sizes))


def _table(target: Target, sizes: Sizes) -> tuple[tuple[int | None, Config], ...]:
    if target == INTERPRETER:
        return INTERPRETED
    return (AMD if target.amd else NVIDIA)[sizes.itemsize]


# As above, for drafts; measured with four tokens a row. A program's state stays in registers over all of them.
NVIDIA_SPEC = {
    4: ((64, SpecConfig(8, 8, 2)), (128, SpecConfig(1, 8, 8)), (None, SpecConfig(1, 16, 4))),
    2: ((32, SpecConfig(8, 16, 4)), (128, SpecConfig(1, 8, 8)), (None, SpecConfig(1, 16, 4))),
}
# 512 threads, whose registers hold a head of 128 x 128 on every AMD chip compiled for.
AMD_SPEC = {64: SpecConfig(1, 16, 8), 32: SpecConfig(1, 16, 16)}


def choose_spec(target: Target, rows: int, width: int, sizes: Sizes) -> SpecConfig:
    """The configuration for a launch of `rows` speculative rows of up to `width` tokens."""
    table = _spec_table(target, width, sizes)
    return next(config for limit, config in table if limit is None or rows * sizes.HV <= limit)


def spec_configurations(target: Target, width: int, sizes: Sizes) -> tuple[SpecConfig, ...]:
    """Every configuration that `choose_spec` can return for this width and these sizes."""
    return tuple(config for _, config in _spec_table(target, width, sizes))


@cache
def _spec_table(target: Target, width: int, sizes: Sizes) -> tuple[tuple[int | None, SpecConfig], ...]:
    """The measured table, with heads cut finer where a program would not have the registers."""
    tiles = triton.next_power_of_2(sizes.K) * triton.next_power_of_2(sizes.V) // (128 * 128)
    crowded = width > 4 or target.arch == "100"  # whose compiler has no register left at four tokens
    finer = max(1, tiles) * (2 if crowded else 1)
    if target == INTERPRETER:
        return ((4, SpecConfig(splits=2)), (None, SpecConfig()))
    if target.amd:
        return ((None, AMD_SPEC[target.wavefront]),)
    table = NVIDIA_SPEC[sizes.itemsize]
    return tuple((limit, replace(config, splits=min(8, config.splits * finer))) for limit, config in table)
