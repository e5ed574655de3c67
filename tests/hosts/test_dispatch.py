"""Which places of a specialised kernel are Triton's own dispatch of warps, read from its intermediate code."""

from __future__ import annotations

import pytest

from gdn_verify.hosts.dispatch import places_in

TTGIR = """\
#loc = loc(unknown)
#loc1 = loc("/some/where/kernels.py":72:0)
#loc10 = loc("x"(#loc1))
module attributes {"ttg.num-warps" = 4 : i32} {
  tt.func public @warps_kernel(%x: !tt.ptr<i32> loc("x"(#loc1))) attributes {noinline = false} {
    ttg.warp_specialize(%x) attributes {requestedRegisters = array<i32: 64>}
    default {
      %at = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32> loc(#loc2)
      ttg.warp_yield loc(#loc)
    }
    partition0(%arg1: !tt.ptr<i32> loc(unknown)) num_warps(4) {
      ttg.warp_return loc(#loc1)
    } : (!tt.ptr<i32>) -> () loc(#loc3)
    tt.return loc(#loc9)
  } loc(#loc1)
  tt.func private @called(%x: i32 loc("x"(#loc2))) -> i32 attributes {noinline = true} {
    tt.return %x : i32 loc(#loc2)
  } loc(#loc2)
} loc(#loc)
#loc2 = loc("/some/where/kernels.py":57:29)
#loc3 = loc("/some/where/kernels.py":75:4)
#loc9 = loc("/some/where/kernels.py":74:4)
"""


def test_a_specialised_kernels_first_place_is_where_it_begins() -> None:
    """Then where it is specialised, and where it ends; nothing of its groups of warps, nor of another function."""
    assert places_in(TTGIR) == "warps_kernel kernels.py:72 kernels.py:75 kernels.py:74"


@pytest.mark.parametrize("text", ["", TTGIR.replace("ttg.warp_specialize", "ttg.other")])
def test_another_kernel_has_none(text: str) -> None:
    """And all races in it count."""
    assert places_in(text) == ""
