"""The dispatcher with the real kernels, in Triton's interpreter: which are launched, and that they see only their rows.

Whether their numbers are right is for the gate to say (path `dispatch`); here they are near the fallback's.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

import pytest
import torch
from torch import Tensor

from gdn_verify.emulator import interpreter
from gdn_verify.kernels import fast
from gdn_verify.kernels.plan import plan_rows

from .checking import assert_rounded, wide
from .launches import Launch, same_bits
from .stubs import by_row
from .test_dispatch import ROWS, dispatched, tiny

pytest.importorskip("triton")
Ran = tuple[list[str], tuple[Tensor, ...]]


@pytest.fixture(scope="module")
def process() -> Iterator[Executor]:
    """A process with the interpreter installed; pytest's own is never patched."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=interpreter.install) as pool:
        yield pool


def launch_of(names: list[str]) -> Launch:
    """Rows by name, with random numbers for all that is read."""
    launch = tiny([ROWS[name] for name in names], pad_tokens=1)
    make = torch.Generator().manual_seed(len(names))
    for x in (launch.qkvz, launch.ba, launch.conv_pool, launch.pool):
        x.copy_(torch.randn(x.shape, generator=make))
    launch.qkvz[-1] = float("nan")  # a padded token
    return launch


def interpreted(names: list[str], kernel: str) -> Ran:
    """In the interpreter's process: the kernels launched, and what the launch leaves; its output held NaN."""
    launch = launch_of(names)
    output = torch.full((len(launch.qkvz), 1, 2), float("nan"))
    with interpreter.launches() as ran:
        left = dispatched(launch, plan=plan_rows(launch.rows), kernel=kernel, output=output)
    return [each.kernel for each in ran], left


def assert_near(actual: tuple[Tensor, ...], launch: Launch) -> None:
    """Outputs and states within float32 noise of the fallback's, z and the conv pool bit for bit."""
    conv_pool, pool = launch.conv_pool.clone(), launch.pool.clone()
    out, z = by_row(
        launch.qkvz, launch.ba, launch.layer, conv_pool, pool, launch.tables, packing="flat", state_order="VK"
    )
    assert_rounded(actual[0], wide(out), "out", floor=1.0)
    assert same_bits(actual[1], z[: len(actual[1])])
    assert same_bits(actual[2], conv_pool)
    assert_rounded(actual[3], wide(pool), "pool", floor=1.0)


PREFILL = ["gdn_conv_prefill_kernel", "gdn_intra_kernel", "gdn_scan_kernel", "gdn_gated_norm_kernel"]


@pytest.mark.parametrize("kernel", ["auto", "fused"])
@pytest.mark.parametrize(
    ("names", "kernels"),
    [
        (["decode", "empty", "padded", "in place"], ["gdn_decode_kernel"]),
        (["prompt", "decode", "fresh", "elsewhere"], [*PREFILL, "gdn_decode_kernel"]),
        (["spec", "empty", "padded"], ["gdn_spec_kernel", "gdn_decode_kernel"]),
        (["empty", "spec"], ["gdn_spec_kernel"]),
        (
            ["decode", "prompt", "spec", "fresh", "in place", "elsewhere"],
            [*PREFILL, "gdn_spec_kernel", "gdn_decode_kernel"],
        ),
        (["fresh spec", "prompt", "spec"], [*PREFILL, "gdn_spec_kernel"]),
        (["prompt", "fresh", "padded prompt"], PREFILL),
        (["fresh spec"], []),
    ],
)
def test_a_kind_of_rows_is_one_launch(process, names, kernels, kernel):
    """The same launches for all rows of a kind, wherever they stand, and the fallback's results."""
    ran, left = process.submit(interpreted, names, kernel).result(timeout=120)
    assert ran == kernels
    assert_near(left, launch_of(names))


PAIR = ["gdn_conv_update_kernel", "gdn_decode_kernel"]


@pytest.mark.parametrize(
    ("names", "kernels"),
    [(["decode", "empty", "padded"], PAIR), (["prompt", "padded", "decode", "fresh"], [*PREFILL, *PAIR])],
)
def test_decode_in_two_launches(process, names, kernels):
    """The pair of kernels for decode rows, the norm after them, prefill as ever, and the fallback's results."""
    ran, left = process.submit(interpreted, names, "two-launch").result(timeout=120)
    assert ran == kernels
    assert_near(left, launch_of(names))


def test_two_launches_take_no_drafts(process):
    """There is no such pair for speculative rows, and it says so."""
    with pytest.raises(ValueError, match="kernel='two-launch' cannot serve this launch: it has no kernel for spec"):
        process.submit(interpreted, ["decode", "spec"], "two-launch").result(timeout=120)


def test_the_interpreter_makes_the_kernels_available(process):
    """The probe's answer there; here, on the same tensors, it is a reason."""
    assert process.submit(fast.kernels_missing, "cpu").result(timeout=120) is None
    assert fast.kernels_missing("cpu") is not None


@pytest.mark.parametrize("name", ["decode", "prompt"])
def test_what_the_kernels_do_not_take_goes_the_standard_way(process, name):
    """Columns of a projection that are not adjacent: refused with the kernel's reason, computed all the same."""
    ran, left, reason = process.submit(refused, name).result(timeout=120)
    assert not ran
    assert_near(left, launch_of([name]))
    assert "ba has stride" in reason


def refused(name: str) -> tuple[list[str], tuple[Tensor, ...], str]:
    """In the interpreter's process: the same launch without and with a kernel forced."""
    launch = launch_of([name])
    launch.ba = torch.stack([launch.ba, launch.ba], dim=2)[..., 0]
    with interpreter.launches() as ran:
        left = dispatched(launch)
    with pytest.raises(ValueError, match="cannot serve") as error:
        dispatched(launch, kernel="fused")
    return [each.kernel for each in ran], left, str(error.value)
