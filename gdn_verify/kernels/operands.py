"""The operands of one launch of the layer core from packed projections, under one name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import Tables


@dataclass(frozen=True)
class Operands:
    """What `gated_delta_net_packed` is given, apart from how to run it; shapes and meanings are told there."""

    qkvz: Tensor
    ba: Tensor
    layer: Layer
    conv_pool: Tensor
    pool: Tensor
    tables: Tables
    packing: str = "flat"
    state_order: str = "VK"
    pad_slot_id: int | None = None
    output: Tensor | None = None
    z_output: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Layer, Tensor, Tensor]:
        """The arguments that every kernel takes first."""
        return self.qkvz, self.ba, self.layer, self.conv_pool, self.pool

    @property
    def options(self) -> dict[str, Any]:
        """The keywords that every kernel takes."""
        return {"packing": self.packing, "state_order": self.state_order, "pad_slot_id": self.pad_slot_id}

    @property
    def first_slots(self) -> Tensor:
        """Column 0 of `state_indices`, [N]: the slot of a plain row."""
        indices = self.tables.state_indices
        return indices if indices.ndim == 1 else indices[:, 0]

    @property
    def slot_table(self) -> Tensor:
        """`state_indices` as [N, S]."""
        indices = self.tables.state_indices
        return indices[:, None] if indices.ndim == 1 else indices

    @property
    def plain_tables(self) -> Tables:
        """The tables of the plain rows: what a spec row has beside its first slot is left out."""
        if self.tables.state_indices.ndim == 1 and self.tables.num_accepted_tokens is None:
            return self.tables
        return replace(self.tables, state_indices=self.first_slots, num_accepted_tokens=None, spec_rows=None)

    @property
    def wants_gradient(self) -> bool:
        """Whether autograd would follow some operand."""
        layer = self.layer
        parameters = (layer.conv_weight, layer.conv_bias, layer.A_log, layer.dt_bias, layer.norm_weight)
        followed = (x is not None and x.requires_grad for x in (self.qkvz, self.ba, *parameters))
        return torch.is_grad_enabled() and any(followed)
