"""`chunk_delta` in the interpreter: the fallback's recurrence, and no other bit touched."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from .chunk_launches import LONG, SHORT, Launch, account

if TYPE_CHECKING:
    from gdn_verify.kernels.triton.shape import Shape

pytest.importorskip("triton")
OPTIONS = {
    "short": SHORT,
    "long": LONG,
    "no initial states": replace(LONG, rows=tuple((n, s, r, False) for n, s, r, _ in LONG.rows)),
    "all with states": replace(SHORT, known=False),
    "forgets everything": replace(LONG, decay=200.0),
    "forgets nothing": replace(LONG, decay=0.0),
    "keys alike": replace(LONG, alike=True, decay=1e-4),
    "keys alike, beta to 2": replace(LONG, alike=True, decay=0.0, beta_scale=2.0),
    "three heads to a key": replace(SHORT, H=2, ratio=3),
    "K below V": replace(LONG, K=8, V=40),
    "K above V": replace(SHORT, K=48, V=3),
    "KV": replace(LONG, state_order="KV", K=24),
    "gaps, tail": replace(SHORT, gap=5, tail=4),
    "untouched pads": replace(SHORT, tail=4, zero_pads=False),
    "int64, padding by an id": replace(SHORT, index=torch.int64, pad_slot_id=4),
    "read elsewhere": replace(LONG, reads=True),
    "given scale, no norm": replace(SHORT, scale=0.25, qk_norm=False, decay=1.0, beta_scale=0.02),
    "narrow pool": replace(LONG, pool=torch.bfloat16),
    "bfloat16": replace(LONG, dtype=torch.bfloat16),
    "bfloat16, keys alike": replace(LONG, dtype=torch.bfloat16, alike=True, decay=1e-4),
    "bfloat16, chunks of 64": replace(LONG, dtype=torch.bfloat16, chunk=64),
    "float32, chunks of 64": replace(LONG, alike=True, decay=1e-4, chunk=64),
    "float16": replace(LONG, dtype=torch.float16, pool=torch.float16),
    "bfloat16 in float32": replace(LONG, dtype=torch.bfloat16, exact=True),
}


def check(launch: Launch) -> None:
    """In the interpreter's process: one launch, accounted for."""
    from gdn_verify.kernels.triton.chunk import chunk_delta

    account(launch, partial(chunk_delta, exact=launch.exact, shape=shape_of(launch)))


def shape_of(launch: Launch) -> Shape:
    """The chip's own but for what the launch asks for; in the interpreter's process."""
    from gdn_verify.kernels.triton.shape import choose_shape
    from gdn_verify.kernels.triton.target import current_target

    exact = launch.exact or launch.dtype == torch.float32
    chosen = replace(choose_shape(current_target(), launch.K, exact), segments=launch.segments)
    return chosen if launch.chunk is None else replace(chosen, chunk=launch.chunk, scan_warps=4)


@pytest.mark.parametrize("launch", OPTIONS.values(), ids=OPTIONS)
def test_the_recurrence_over_rows_of_any_length(interpreted, launch):
    """Rows shorter than a chunk, of one and of several, with each option."""
    interpreted(check, launch)


def defective(name: str) -> str | None:
    """In the interpreter's process: what is said of a launch 1 whose products are handed on wrong."""
    from gdn_verify.kernels.triton import chunk

    class Spoilt:
        def __getitem__(self, grid):
            def launch(*arguments, **options):
                kernel[grid](*arguments, **options)
                arguments[{"W": 5, "B": 6, "factors": 7}[name]][-2].mul_(1.1)

            return launch

    kernel, chunk.gdn_intra_kernel = chunk.gdn_intra_kernel, Spoilt()
    try:
        check(LONG)
    except AssertionError as error:
        return str(error)
    finally:
        chunk.gdn_intra_kernel = kernel
    return None


@pytest.mark.parametrize("name", ["W", "B", "factors"])
def test_a_wrong_product_of_one_chunk_is_found(interpreted, name):
    """In the last chunk but one."""
    assert "relative error" in interpreted(defective, name)


def check_refusals() -> list[str]:
    """In the interpreter's process: what is said of operands that do not fit."""
    from gdn_verify.kernels.triton.chunk import chunk_delta

    (q, k, v, g, beta), tables, pool = SHORT.inputs(), SHORT.tables(), SHORT.states().view
    said = []
    columns, learnt = v.mT.contiguous().mT, q.clone().requires_grad_()
    apart = g.t().contiguous().t()
    for found in ((q, k.bfloat16(), v, g), (q, k, columns, g), (learnt, k, v, g), (q, k, v, apart)):
        try:
            chunk_delta(*found, beta, pool, tables)
        except (ValueError, RuntimeError) as error:
            said.append(str(error))
    return said


def test_what_does_not_fit_is_refused(interpreted):
    """By name, with the way out."""
    dtype, strides, gradient, heads = interpreted(check_refusals)
    assert dtype.startswith("k has dtype torch.bfloat16")
    assert strides.startswith("v has strides (32, 1, 2); the heads of a token must be contiguous")
    assert "requires a gradient" in gradient
    assert heads.startswith("g has strides")
