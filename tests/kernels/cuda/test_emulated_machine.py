"""The emulated machine: numbers convert as torch's do, threads agree, and what no card defines is a finding."""

from __future__ import annotations

import pytest
import torch

from gdn_verify.kernels.cuda.emulate import EmulationError

from .toys import numbers, run

FLOAT = "const float *x = (const float *)a.x; float *y = (float *)a.y;"
EXCHANGED = f"{FLOAT} s.number[i] = x[i]; block_barrier(); y[i] = s.number[63 - i];"
WIDENED = "for (int n = i; n < 65536; n += 64) ((float *)a.y)[n] = widened(TYPE{(uint16)n});"
NARROWED = "for (int n = i; n < 65536; n += 64) narrow(((const float *)a.x)[n], ((TYPE *)a.y)[n]);"
TYPES = [("Bfloat16", torch.bfloat16), ("Float16", torch.float16)]


def same_numbers(got: torch.Tensor, wanted: torch.Tensor) -> bool:
    """The same bits, but for what kind of NaN it is."""
    return torch.equal(got.isnan(), wanted.isnan()) and torch.equal(got.nan_to_num(7.0), wanted.nan_to_num(7.0))


@pytest.mark.parametrize(("name", "dtype"), TYPES)
def test_every_16_bit_number_is_widened_exactly(name, dtype):
    """Denormals, infinities and NaN too."""
    bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    got = torch.empty(65536)
    run(WIDENED.replace("TYPE", name), bits, got)
    assert same_numbers(got, bits.view(dtype).float())


@pytest.mark.parametrize(("name", "dtype"), TYPES)
def test_numbers_are_narrowed_to_nearest_even(name, dtype):
    """Every 16-bit number, its neighbours and the ties between them: what torch rounds them to."""
    bits = torch.arange(65536, dtype=torch.int32)
    exact = bits.to(torch.int16).view(dtype).float()
    following = (bits + 1).to(torch.int16).view(dtype).float()
    for x in (exact, (exact + following) / 2, exact * (1 + 2**-20), exact * (1 - 2**-20), exact * 1.0009765625):
        got = torch.empty(65536, dtype=dtype)
        run(NARROWED.replace("TYPE", name), x.contiguous(), got)
        assert same_numbers(got, x.to(dtype))


def test_threads_of_a_block_exchange_through_shared_memory():
    """With a barrier."""
    y = torch.zeros(64)
    run(EXCHANGED, numbers(), y)
    assert torch.equal(y, numbers().flip(0))


def test_lanes_exchange():
    """Sums over groups of eight lanes, the same in each."""
    y = torch.zeros(64)
    run(f"{FLOAT} y[i] = sum_over_lanes<8>(x[i]);", numbers(), y)
    assert torch.equal(y, numbers().view(8, 8).sum(1).repeat_interleave(8))


def test_blocks_of_a_cluster_send_numbers():
    """Into open mailboxes; before it has waited, nobody sees them."""
    y = torch.zeros(256)
    body = """if (!i) open_mailbox(s.box, 4);
  block_barrier(); cluster_arrive(); cluster_wait();
  if (i < 4) send(s.number[block_x()], i, x[block_x()], s.box);
  for (int n = 0; n < 9; n++) block_barrier();
  if (i < 4) y[64 + block_x() * 4 + i] = s.number[i];
  block_barrier();
  wait_for_mail(s.box);
  if (i < 4) y[block_x() * 4 + i] = s.number[i];"""
    run(f"{FLOAT} {body}", numbers(), y, blocks=4, cluster=4)
    assert torch.equal(y[:16], numbers(4).repeat(4))
    assert y[64:80].isnan().all()


def test_copies_arrive_when_they_are_waited_for():
    """And not before."""
    y = torch.zeros(64)
    body = "copy_async<4>(4 * i, x + i); commit_copies(); {} y[i] = number<float>(take_copied<4>(4 * i), 0);"
    run(f"{FLOAT} {body.format('wait_for_copies<0>();')}", numbers(), y, ring_bytes=256)
    assert torch.equal(y, numbers())
    run(f"{FLOAT} {body.format('wait_for_copies<1>();')}", numbers(), y, ring_bytes=256)
    assert y.isnan().all()


FINDINGS = {
    "index 64 of an array of 64": f"{FLOAT} s.number[i + 1] = x[i];",
    "index -1 of an array of 64": f"{FLOAT} y[i] = s.number[i - 1];",
    "a warp has parted": f"{FLOAT} if (i != 5) y[i] = of_lane_xor(x[i], 1);",
    "a warp has parted: lane 31 is at an exchange, lane 0 at another": (
        f"{FLOAT} y[i] = i < 16 ? of_lane_xor(x[i], 1) : of_lane_xor(x[i], 2);"
    ),
    "threads wait for what never comes: 126 are at the block's barrier": "if (i) block_barrier();",
    "64 at the cluster's barrier": "if (block_x()) cluster_arrive(); if (block_x()) cluster_wait();",
    "arrives twice": "cluster_arrive(); cluster_arrive();",
    "a block that is not known to have begun": f"{FLOAT} if (!i) send(s.number[0], 1, x[0], s.box);",
    "128 at a mailbox": "if (!i) open_mailbox(s.box, 4); block_barrier(); wait_for_mail(s.box);",
    "a number is sent to a mailbox that expects 1": (
        f"{FLOAT} if (!i) open_mailbox(s.box, 1); block_barrier(); cluster_arrive(); cluster_wait();\n"
        "send(s.number[i], 0, x[i], s.box);"
    ),
    "a block that has ended": (
        f"{FLOAT} cluster_arrive(); cluster_wait(); if (block_x()) return;\n"
        "for (int n = 0; n < 99; n++) block_barrier(); if (!i) send(s.number[0], 1, x[0], s.box);"
    ),
    "block 2 of a cluster of 2": f"{FLOAT} if (!i) send(s.number[0], 2, x[0], s.box);",
    "528 of a ring of 256": f"{FLOAT} if (i == 32) copy_async<16>(16 * i, x);",
    "more than 65536 bytes of stack": (
        "volatile char big[65536]; for (int n = 0; n < 65536; n++) big[n] = n; block_barrier(); (void)big[i];"
    ),
    "no multiple of the 16 bytes": f"{FLOAT} load_words<16>(x + 1);",
}


@pytest.mark.parametrize("words", FINDINGS)
def test_what_no_card_defines_is_a_finding(words):
    """Within seconds, with the thread; the next launch is as good as ever."""
    with pytest.raises(EmulationError, match=words):
        run(FINDINGS[words], numbers(), numbers(), blocks=2, cluster=2, ring_bytes=256)
    test_threads_of_a_block_exchange_through_shared_memory()


def test_a_missing_barrier_shows_in_some_order():
    """Memory of a block begins as NaN; and a number that is overwritten early is another one."""
    y = torch.zeros(64)
    run(EXCHANGED.replace("block_barrier();", ""), numbers(), y)
    assert not torch.equal(y, numbers().flip(0))
