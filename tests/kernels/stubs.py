"""Stand-ins for the fast kernels: what `fused_decode`, `chunked_prefill` and `fused_spec_decode` promise, done by the
fallback.

What they promise to leave alone they leave alone: a dispatcher that counts on more than the promise shows in bits.
All of them, and the standard path under test, compute `by_row`: a vectorised function's last bit may depend on where
in a tensor an element stands, and here bits are to tell which row was computed, and from what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gdn_verify.kernels import fallback
from gdn_verify.kernels.fast import Kernels
from gdn_verify.kernels.operands import Operands
from gdn_verify.kernels.rows import Tables, legal_slots, live_rows
from gdn_verify.kernels.stages import unpack

gated_delta_net_packed = fallback.gated_delta_net_packed  # a test may watch the dispatcher's


def by_row(*operands: Any, output: Tensor | None = None, z_output: Tensor | None = None, **options: Any):
    """The fallback, a launch for each row with the row's tokens alone."""
    qkvz, ba, layer, conv_pool, pool, tables = operands
    starts = tables.query_start_loc.tolist()
    pieces = []
    for row, (start, stop) in enumerate(pairwise(starts)):
        own = {name: None if x is None else x[row : row + 1] for name, x in vars(tables).items()}
        own["query_start_loc"] = tables.query_start_loc.new_tensor([0, stop - start])
        tokens = slice(start, stop)
        pieces.append(
            gated_delta_net_packed(qkvz[tokens], ba[tokens], layer, conv_pool, pool, Tables(**own), **options)
        )
    z = unpack(qkvz, ba, *layer.geometry, options["packing"])[1]
    result = torch.cat([*(out for out, _ in pieces), torch.zeros_like(z[starts[-1] :])])
    return (
        result if output is None else output.copy_(result),
        z if z_output is None else z_output.copy_(z),
    )


@dataclass
class Stubs:
    """All kernels. `calls` has the route of each call and the live rows in it, `keywords` what it was called with."""

    calls: list[tuple[str, set[int]]] = field(default_factory=list)
    keywords: list[dict[str, Any]] = field(default_factory=list)
    refusal: dict[str, str] = field(default_factory=dict)

    @property
    def kernels(self) -> Kernels:
        """What `fast.kernels` gives."""

        def refuses(name: str) -> Callable[[Operands], str | None]:
            return lambda operands: self.refusal.get(name)

        return Kernels(
            self.decode, refuses("decode"), self.prefill, refuses("prefill"), self.spec, refuses("spec")
        )  # fmt: skip

    def note(self, name: str, tables: Tables, tokens: int, slots: int, pad: int | None) -> None:
        """Remember which rows are live in this call."""
        rows = live_rows(tables, tokens, slots, conv=True, pad_slot_id=pad, validate=False)
        self.calls.append((name, set(rows.index.tolist())))

    def decode(self, *operands: Any, query_start_loc: Tensor | None = None, **options: Any) -> Tensor:
        """Rows of one token; a row with a slot and another number of tokens is passed over."""
        *inputs, slots = operands
        self.keywords.append({"query_start_loc": query_start_loc, **options})
        starts = torch.arange(len(slots) + 1) if query_start_loc is None else query_start_loc
        other = starts.diff() != 1
        passed = other & (legal_slots(slots, len(inputs[4]), options["pad_slot_id"]) >= 0)
        return self._run("decode", inputs, Tables(starts, torch.where(other, -1, slots)), passed, **options)

    def prefill(self, *operands: Any, **options: Any) -> Tensor:
        """Plain rows, by tables that say nothing else."""
        *inputs, tables = operands
        assert tables.num_accepted_tokens is None
        assert tables.spec_rows is None
        assert tables.state_indices.ndim == 1
        self.keywords.append(options)
        return self._run("prefill", inputs, tables, torch.zeros(tables.rows, dtype=torch.bool), **options)

    def spec(self, *operands: Any, **options: Any) -> Tensor:
        """Speculative rows only."""
        *inputs, slots, starts, accepted = operands
        self.keywords.append(options)
        tables = Tables(starts, slots, num_accepted_tokens=accepted)
        return self._run("spec", inputs, tables, torch.zeros(len(slots), dtype=torch.bool), **options)

    def _run(
        self,
        name: str,
        inputs: list[Any],
        tables: Tables,
        passed: Tensor,
        *,
        output: Tensor | None,
        z_output: Tensor | None,
        zero_pads: bool,
        **options: Any,
    ) -> Tensor:
        tokens, slots, pad = len(inputs[0]), len(inputs[4]), options["pad_slot_id"]
        self.note(name, tables, tokens, slots, pad)
        written = torch.full([tokens], zero_pads)
        starts = tables.query_start_loc.tolist()
        for row in passed.nonzero()[:, 0].tolist():
            written[starts[row] : starts[row + 1]] = False
        rows = live_rows(tables, tokens, slots, conv=True, pad_slot_id=pad, validate=False)
        written[rows.tokens[2]] = True
        result, z = by_row(*inputs, tables, validate=False, **options)
        if output is None:
            output = torch.full_like(result, float("nan"))
        output[written] = result[written].to(output.dtype)
        if z_output is not None:
            z_output[: starts[-1]] = z[: starts[-1]]
        return output
