"""Arguments that mutants are equivalent, where they are about so few numbers that all can be tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import pytest

from gdn_verify.mutants.record import arguments

pytest.importorskip("triton")
DECODE, SPEC = "triton/decode_kernel.py::gdn_decode_kernel", "triton/spec_kernel.py::gdn_spec_kernel"
EVEN, EVEN_K = "SPLITS * STEPS * BV == V", "KS * KK == K"
"""Where no tile is cut off at the end of V, and of K: masks are left out there (`gdn_decode_kernel`)."""
EVEN_PART = "SPLITS * BV == V"
"""The same of a draft's one tile of V a program (`gdn_spec_kernel`)."""
POWERS = tuple(1 << power for power in range(9))


def sizes() -> Iterator[Mapping[str, int]]:
    """The constants of every launch, by all sizes of V and of K: of one the other is nothing to these conditions."""
    from gdn_verify.kernels.triton.config import Config, Sizes

    for V, splits, block_v in product(range(1, 257), (1, 2, 4, 8), POWERS):
        cut = Config(splits=splits, block_v=block_v).constants(Sizes(1, 1, 16, V, 4))
        yield {**cut, "K": 16, "V": V}
    for K, lanes, itemsize in product(range(1, 257), POWERS[:7], (2, 4)):
        yield {**Config(lanes=lanes).constants(Sizes(1, 1, K, 16, itemsize)), "K": K, "V": 16}


def spec_sizes() -> Iterator[Mapping[str, int]]:
    """Likewise of launches of drafts."""
    from gdn_verify.kernels.triton.config import Sizes, SpecConfig

    for V, splits in product(range(1, 257), (1, 2, 4, 8)):
        yield {**SpecConfig(splits=splits).constants(Sizes(1, 1, 16, V, 4)), "K": 16, "V": V}
    for K, lanes, itemsize in product(range(1, 257), POWERS[:7], (2, 4)):
        yield {**SpecConfig(lanes=lanes).constants(Sizes(1, 1, K, 16, itemsize)), "K": K, "V": 16}


LAUNCHES = {DECODE: sizes, SPEC: spec_sizes}


def left_out(kernel: str, condition: str, implied: str) -> int:
    """In how many launches the masks would be left out where they are needed."""
    narrow, whole = compile(condition, "a mutant", "eval"), compile(implied, "the kernel", "eval")
    return sum(eval(narrow, {}, dict(each)) and not eval(whole, {}, dict(each)) for each in LAUNCHES[kernel]())


@pytest.mark.parametrize(
    ("kernel", "number", "whole"),
    [
        *((DECODE, n, EVEN_K if n < 7 else EVEN) for n in range(5, 11)),
        *((SPEC, n, EVEN_K if n < 5 else EVEN_PART) for n in range(3, 7)),
    ],
)
def test_a_factor_less_leaves_out_no_mask_that_is_needed(kernel: str, number: int, whole: str) -> None:
    """The condition of the mutant, by its own words, holds nowhere but where that of the kernel does."""
    _, entry = arguments()[f"{kernel}::factor::{number}"]
    assert whole.count(entry["before"]) == 1
    assert left_out(kernel, whole.replace(entry["before"], entry["after"]), whole) == 0


@pytest.mark.parametrize(
    ("kernel", "wrong", "whole"),
    [
        (DECODE, "SPLITS * STEPS * BV >= V", EVEN),
        (DECODE, "KS * KK >= K", EVEN_K),
        (SPEC, "SPLITS * BV >= V", EVEN_PART),
        (SPEC, "KS * KK >= K", EVEN_K),
    ],
)
def test_a_condition_that_is_too_wide_is_seen(kernel: str, wrong: str, whole: str) -> None:
    """Tiles are cut off in some of these launches."""
    assert left_out(kernel, wrong, whole) > 100
