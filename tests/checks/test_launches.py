"""Captured launches: the stand-in finds what only a replay shows, and healthy kernels are never accused."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import launched
import pytest

from gdn_verify.emulator import interpreter
from gdn_verify.mutants.evidence import LAUNCHES

pytest.importorskip("triton")
Judge = Callable[..., tuple[Counter[str], list[str]]]


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """`launched.verdicts` in a process of the interpreter's."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=interpreter.install) as pool:
        yield lambda *args, **more: pool.submit(launched.verdicts, *args, **more).result(timeout=300)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        # The gate asks the same of every path.
        pytest.param("fused-decode", "decode", marks=pytest.mark.slow),
        ("fused-spec", "spec"),
        pytest.param("dispatch", "mixed", marks=pytest.mark.slow),
        ("chunk-delta", "decode"),
    ],
)
def test_healthy_kernels_are_captured_and_never_accused(judge: Judge, path: str, kind: str) -> None:
    """Other slots, fewer rows, none; padded rows and idle launches."""
    tally, messages = judge("healthy", path, kind, 4)
    assert tally["silent"] == 4, messages
    assert tally["compared"] >= 8  # other slots, and fewer rows, of each


def test_a_path_that_reads_tables_on_the_host_is_not_held_to_a_capture(judge: Judge) -> None:
    """One of ours, of kernels that a graph can hold."""
    tally, messages = judge("healthy", "chunk-delta-checkpoints", "prefill", 2)
    assert (tally["red"], tally["compared"]) == (0, 0), messages
    assert all("tolist() reads contents on the host" in message for message in messages)


@pytest.mark.parametrize(("path", "kind"), [("fla-recurrent", "decode"), ("fla-chunk", "prefill")])
def test_flas_kernels_are_captured_too(judge: Judge, path: str, kind: str) -> None:
    """What their path needs to know of the rows it does not read from the device."""
    pytest.importorskip("fla", reason="pip install 'gdn-verify[fla]'")
    tally, messages = judge("healthy", path, kind, 3)
    assert (tally["silent"], tally["compared"]) == (3, 3), messages


def test_a_branch_frozen_at_capture_is_found(judge: Judge) -> None:
    """graph-capture-freezes-branch, neg-index-clamped-to-live-slot: eager launches of the same rows are right."""
    tally, messages = judge("branch_of_the_capture", "fused-decode", "decode", LAUNCHES["branch_of_the_capture"])
    assert tally["red"] >= 2  # of six
    assert any("after a replay" in message and "rows live: ssm_pool" in message for message in messages)


def test_a_buffer_that_is_not_the_callers_is_found(judge: Judge) -> None:
    """A copy that was made for the first launch of a shape goes on being read."""
    tally, _ = judge("kept_copy", "fused-decode", "decode", 4)
    assert tally["red"] == 4


def test_an_idle_launch_that_writes_is_found(judge: Judge) -> None:
    """dummy-run-writes-through-stale-row: a launch with nothing to do leaves the pool bit for bit."""
    count = LAUNCHES["busy_when_idle"]
    tally, messages = judge("busy_when_idle", "fused-decode", "decode", count)
    assert tally["red"] == count
    assert any(message.startswith("launches/changed ssm_pool: no rows") for message in messages)


@pytest.mark.parametrize("promised", [False, True])
def test_a_launch_that_reads_from_the_device_is_refused_and_says_what_it_did(judge: Judge, promised: bool) -> None:
    """No engine can capture it: wrong where the path says that one can, else a fact of the path."""
    tally, messages = judge("length_read", "fused-decode", "decode", 2, promises_capture=promised)
    assert tally["red" if promised else "refused"] == 2
    assert "Tensor.item() reads contents on the host" in messages[0]
    assert messages[0].startswith("launches/capture: ") == promised


def test_a_path_that_does_not_promise_bits_is_not_held_to_them(judge: Judge) -> None:
    """Its idle launches are: those compute nothing."""
    tally, messages = judge("branch_of_the_capture", "fused-decode", "decode", 2, promises_bits=False)
    assert tally["refused"] == 2
    assert "does not promise the same bits" in messages[0]
    assert judge("busy_when_idle", "fused-decode", "decode", 2, promises_bits=False)[0]["red"] == 2
