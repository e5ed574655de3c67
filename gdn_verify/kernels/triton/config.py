"""How a decode launch is cut into programs, chosen by chip, number of rows and size of the state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import triton

from gdn_verify.kernels.triton.target import Target


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

    A program owns all value heads of a key head (`whole_key_head`), or one; V of a head is split over `splits`
    programs and walked in tiles of `block_v` rows. `lanes` threads share a row, 16 bytes each. `maxnreg` bounds the
    registers of a thread on NVIDIA, `waves_per_eu` asks AMD's compiler for an occupancy; 0 leaves either alone.
    """

    whole_key_head: bool = False
    splits: int = 1
    block_v: int = 64
    lanes: int = 8
    num_warps: int = 8
    maxnreg: int = 0
    waves_per_eu: int = 0

    def __post_init__(self) -> None:
        if self.splits not in (1, 2, 4, 8):
            raise ValueError(f"splits={self.splits} is not one of 1, 2, 4, 8 (the ticket's quantum)")
        if self.whole_key_head and self.splits > 1:
            raise ValueError(f"splits={self.splits} with whole_key_head: split the heads first")

    @property
    def name(self) -> str:
        """Short, for tables: "head/4 bv32 w4"."""
        unit = "key-head" if self.whole_key_head else "head"
        split = f"/{self.splits}" if self.splits > 1 else ""
        limits = f" r{self.maxnreg}" * bool(self.maxnreg) + f" o{self.waves_per_eu}" * bool(self.waves_per_eu)
        return f"{unit}{split} bv{self.block_v} l{self.lanes} w{self.num_warps}{limits}"

    def constants(self, sizes: Sizes) -> dict[str, Any]:
        """The kernel's tile constants for these sizes; a tile never exceeds what there is of V and K."""
        heads = sizes.ratio if self.whole_key_head else 1
        splits = min(self.splits, triton.next_power_of_2(sizes.V))
        block_v = min(self.block_v, triton.next_power_of_2(triton.cdiv(sizes.V, splits)))
        steps = triton.cdiv(sizes.V, splits * block_v)
        width = triton.next_power_of_2(sizes.K)
        piece = min(width, self.lanes * 16 // sizes.itemsize)
        return {
            "HEADS": heads,
            "SPLITS": splits,
            "STEPS": steps,
            "BV": block_v,
            "KS": width // piece,
            "KK": piece,
            "TP": triton.next_power_of_2(heads * steps),
            "RP": triton.next_power_of_2(sizes.ratio),
            "VP": triton.next_power_of_2(sizes.V),
        }

    def options(self, target: Target) -> dict[str, Any]:
        """The compiler's options, those of the other vendor left out."""
        options: dict[str, Any] = {"num_warps": self.num_warps}
        if self.maxnreg and target.vendor == "cuda":
            options["maxnreg"] = self.maxnreg
        if self.waves_per_eu and target.amd:
            options["waves_per_eu"] = self.waves_per_eu
        return options


SPLIT = Config(splits=4, block_v=32, num_warps=4)
HEAD = Config(block_v=64, num_warps=8, maxnreg=128)
KEY_HEAD = Config(whole_key_head=True, block_v=64, num_warps=8, maxnreg=128)


@cache
def choose(target: Target, rows: int, sizes: Sizes) -> Config:
    """The configuration for a launch of `rows` rows."""
    programs = rows * sizes.HV
    if programs <= 64:
        return SPLIT
    return HEAD if programs < 512 else KEY_HEAD


def configurations(target: Target, sizes: Sizes) -> tuple[Config, ...]:
    """Every configuration that `choose` can return for these sizes."""
    return tuple(dict.fromkeys(choose(target, rows, sizes) for rows in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)))
