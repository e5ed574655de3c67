"""The emulated tensor cores, matrices and numbered barriers, against their documented layouts and a plain product.

The layouts are written a second time here, index by index, as NVIDIA's PTX manual has them (m16n8k16, ldmatrix,
movmatrix); and a layout that is wrong in one lane does not pass.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels.cuda.emulate import EmulationError

from .planting import planted
from .toys import numbers, run

TYPES = [("Bfloat16", torch.bfloat16), ("Float16", torch.float16)]
LOADED = """const TYPE *A = (const TYPE *)a.x, *B = A + 256; float *D = (float *)a.y;
  const int lane = i % 32, g = lane / 4, t = lane % 4;
  auto two = [&](const TYPE *at, int step) { return at[0].bits | (uint32)at[step].bits << 16; };
  Words<16> w = {{two(A + g * 16 + 2 * t, 1), two(A + (g + 8) * 16 + 2 * t, 1), two(A + g * 16 + 2 * t + 8, 1),
                  two(A + (g + 8) * 16 + 2 * t + 8, 1)}};
  float c[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  multiply_add<TYPE>(c, w, two(B + 2 * t * 8 + g, 8), two(B + (2 * t + 8) * 8 + g, 8));
  if (i < 32) for (int n = 0; n < 4; n++) D[(g + n / 2 * 8) * 8 + 2 * t + n % 2] = c[n];"""
IN_RING = """const uint16 *A = (const uint16 *)a.x, *B = A + 256; float *D = (float *)a.y;
  for (int n = i; n < 384; n += 64) put<2>(2 * n, Words<2>{A[n]});
  block_barrier();
  const int lane = i % 32, row = lane % 8 + lane / 8 % 2 * 8, g = lane / 4, t = lane % 4;
  const Words<16> w = load_matrices<false>(2 * (row * 16 + lane / 16 * 8));
  const Words<16> b = load_matrices<true>(512 + 2 * row * 8);
  float c[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  multiply_add<TYPE>(c, w, b.word[0], b.word[1]);
  if (i < 32) for (int n = 0; n < 4; n++) D[(g + n / 2 * 8) * 8 + 2 * t + n % 2] = c[n];"""
ACROSS = """const uint16 *x = (const uint16 *)a.x; uint16 *y = (uint16 *)a.y;
  for (int n = i; n < 256; n += 64) put<2>(2 * n, Words<2>{x[n]});
  block_barrier();
  Words<16> w = load_matrices<false>(16 * (i % 32));
  for (int n = 0; n < 4; n++) w.word[n] = transposed_matrix(w.word[n]);
  block_barrier();
  store_matrices<STORED>(16 * (31 - i % 32), w);
  block_barrier();
  for (int n = i; n < 256; n += 64) y[n] = take_copied<2>(2 * n).half;"""


def product(body: str, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(1 + A B by the emulated machine, the same by torch)."""
    make = torch.Generator().manual_seed(1)
    A, B = torch.randn(16, 16, generator=make).to(dtype), torch.randn(16, 8, generator=make).to(dtype)
    got = torch.zeros(16, 8)
    run(body.replace("TYPE", name), torch.cat([A.flatten(), B.flatten()]), got, ring_bytes=768)
    return got, 1 + A.double() @ B.double()


@pytest.mark.parametrize("body", [LOADED, IN_RING], ids=["by its layout", "by way of matrices"])
@pytest.mark.parametrize(("name", "dtype"), TYPES)
def test_a_product(name, dtype, body):
    """Exact but for one rounding to float32."""
    got, wanted = product(body, name, dtype)
    assert torch.equal(got, wanted.float())


SLIPS = {
    "a's quarters in another order": ("two + 8 * (i / 4) + i % 2] =", "two + 8 * (i / 2 % 2) + i % 2] ="),
    "the row of a lane": ("const int row = lane / 4,", "const int row = lane % 8,"),
    "b's halves": ("b[two + 8 * (i / 2)", "b[two + 8 * (1 - i / 2)"),
    "c's rows": ("->c[2 * (i / 8) + j % 2]", "->c[2 * (j % 2) + i / 8]"),
    "a transposed matrix": ("TRANSPOSED ? 4 * c + r / 2", "TRANSPOSED ? 4 * r + c / 2"),
    "which lane gives a row": ("lanes[8 * m + r])->row[c]", "lanes[4 * r + m])->row[c]"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_wrong_lane_is_seen(slip):
    """By one of the two products."""
    with planted("machine.h", *SLIPS[slip]):
        products = [product(body, *TYPES[0]) for body in (LOADED, IN_RING)]
    assert not all(torch.equal(got, wanted.float()) for got, wanted in products)


@pytest.mark.parametrize("stored", [False, True])
def test_matrices_are_transposed_and_stored(stored):
    """Once by `transposed_matrix`, and again where they are stored so; lane 31 - l has given the place of row l."""
    x = torch.arange(256, dtype=torch.int16)
    y = torch.zeros_like(x)
    run(ACROSS.replace("STORED", str(stored).lower()), x, y, ring_bytes=512)
    matrices = x.view(4, 8, 8)
    assert torch.equal(y.view(32, 8).flip(0).view(4, 8, 8), matrices if stored else matrices.transpose(1, 2))


def test_lanes_take_of_any_lane():
    """Floats and doubles."""
    y = torch.zeros(64)
    body = "float *y = (float *)a.y; y[i] = of_lane((float)i, 31 - i % 32) + (float)of_lane(1e-3 * i, (i + 1) % 32);"
    run(body, numbers(), y)
    i = torch.arange(64)
    assert torch.equal(y, (i // 32 * 32 + 31 - i % 32) + (1e-3 * (i // 32 * 32 + (i + 1) % 32).double()).float())


def test_who_arrives_waits_for_nobody():
    """One warp writes and arrives, the other meets it and reads."""
    y = torch.zeros(64)
    ours, theirs = "s.number[i] = i; arrive(1, 64);", "meet(1, 64); y[i] = s.number[i - 32];"
    run(f"float *y = (float *)a.y; if (i < 32) {{ {ours} }} else {{ {theirs} }}", numbers(), y)
    assert torch.equal(y[32:], torch.arange(32.0))


FINDINGS = {
    "at a numbered barrier": "if (i < 32) meet(1, 64);",
    "barrier 1 is met for 32 threads and for 64": "if (i < 31) arrive(1, 32); if (i == 31) arrive(1, 64);",
    "barrier 16 of 64 threads": "meet(16, 64);",
    "a warp has parted": "if (i != 3) warp_barrier();",
    "no multiple of the 16 bytes": "load_matrices<false>(8 * (i % 8));",
    "of a ring of 256": "load_matrices<false>(16 * i);",
}


@pytest.mark.parametrize("words", FINDINGS)
def test_what_no_card_defines_is_a_finding(words):
    """With the thread."""
    with pytest.raises(EmulationError, match=words):
        run(FINDINGS[words], numbers(), numbers(), ring_bytes=256)
