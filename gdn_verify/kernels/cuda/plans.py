"""A kernel's source specialised for a chip, a configuration and a layer: what like launches have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gdn_verify.kernels.cuda.arguments import Arguments
from gdn_verify.kernels.cuda.config import Config, Cut, Sizes, spec_cut
from gdn_verify.kernels.cuda.launch import CLUSTERS, Grid, Kernel
from gdn_verify.kernels.cuda.operands import Options


@dataclass(frozen=True, eq=False)
class Source:
    """A file, the kernel in it, and its arguments."""

    file: str
    name: str
    arguments: Arguments


@dataclass(frozen=True)
class Plan:
    """A specialised kernel, and how it is launched."""

    kernel: Kernel
    cut: Cut
    ring_bytes: int
    dependent: bool
    norm: bool

    @property
    def threads(self) -> int:
        """Of a block."""
        return 32 * self.cut.WARPS

    @property
    def takes_tickets(self) -> bool:
        """Whether blocks of a key head agree by a counter in memory."""
        return self.cut.sharers > 1 and not self.cut.CLUSTER

    @property
    def joins(self) -> bool:
        """Whether they hand o to each other through memory."""
        return self.takes_tickets and self.norm and self.cut.SPLITS > 1

    def scratch(self, x: Tensor, sizes: Sizes) -> tuple[Tensor | None, Tensor | None]:
        """Where they do so, on x's device, for its tokens: o [T·HV·V], and sums of o² [T·HV·SPLITS]; float32."""
        if not self.joins:
            return None, None
        of_each = (sizes.V, self.cut.SPLITS)
        o, sums = (x.new_empty(x.shape[0] * sizes.HV * count, dtype=torch.float32) for count in of_each)
        return o, sums

    def grid(self, units: int, heads: int) -> Grid:
        """For so many rows or tokens, and key heads."""
        sharers = self.cut.sharers
        cluster = sharers if self.cut.CLUSTER else 1
        return Grid(units * sharers, heads, self.threads, cluster, self.ring_bytes, self.dependent)


@cache
def plan_of(source: Source, chip: int, config: Config, sizes: Sizes, options: Options, drafts: int = 0) -> Plan:
    """One for all launches that are alike in these; `drafts` is how many tokens a row of a draft may have."""
    cut = spec_cut(config, chip, sizes, drafts) if drafts else config.cut(chip, sizes)
    kernel = Kernel(source.file, source.name, source.arguments, {**cut._asdict(), **options._asdict()})
    dependent = config.dependent and chip >= CLUSTERS
    return Plan(kernel, cut, cut.ring_numbers * sizes.itemsize, dependent, options.NORM)
