"""Every bit that a launch left, accounted for: values within float32 noise of the fallback's, all others unchanged."""

from __future__ import annotations

from torch import Tensor

from ..checking import assert_rounded, wide
from ..launches import same_bits
from .problems import Buffer, Buffers, Problem

SIZE = 1.0
"""The numbers of a problem are of this size; what is smaller may have cancelled."""


def assert_left(problem: Problem, before: Buffers, after: Buffers) -> None:
    """What one launch of a kernel of ours left, `before` having been given."""
    before, after = before.copy("cpu"), after.copy("cpu")
    expected = problem.reference(before)
    assert_conv_and_inputs(before, after, expected)
    assert_states(problem, before, after, expected.pool.view)
    assert_output(problem, before, after, expected.output.view)
    assert_z(problem, before, after)


def assert_conv_and_inputs(before: Buffers, after: Buffers, expected: Buffers) -> None:
    """The conv pool bit for bit, gaps and columns beyond the window included; inputs as they were."""
    assert same_bits(after.conv_pool.storage, expected.conv_pool.storage), "conv pool"
    for name in ("qkvz", "ba"):
        assert same_bits(getattr(after, name).storage, getattr(before, name).storage), f"{name} was written"


def assert_states(problem: Problem, before: Buffers, after: Buffers, pool: Tensor) -> None:
    """The states of the slots that are written, near; the rest of the pool in bits."""
    for slot in problem.written:
        assert_rounded(after.pool.view[slot], wide(pool[slot]), f"state of slot {slot}", floor=SIZE)
    assert_only(before.pool, after.pool, problem.written, "pool")


def assert_output(problem: Problem, before: Buffers, after: Buffers, output: Tensor) -> None:
    """Live tokens near, others zeros where that is asked, or as before."""
    live = problem.live_tokens
    assert_rounded(after.output.view[live], wide(output[live]), "output", floor=SIZE)
    assert_only(before.output, after.output, _filled(problem), "output")
    zeros = sorted(set(_filled(problem)) - set(live))
    assert (after.output.view[zeros] == 0).all(), "an output of a padded token is not zero"


def _filled(problem: Problem) -> list[int]:
    if not problem.zero_pads:
        return problem.live_tokens
    return sorted(set(range(problem.num_tokens)) - set(problem.passed_over))


def assert_z(problem: Problem, before: Buffers, after: Buffers) -> None:
    """z of every token, bit for bit, but of rows that a speculative launch does not look at."""
    skipped = set() if problem.width is None else set(problem.passed_over)
    tokens = sorted(set(range(problem.num_tokens)) - skipped)
    assert same_bits(after.z_output.view[tokens], z_of(problem, before)[tokens]), "z"
    assert_only(before.z_output, after.z_output, tokens, "z_output")


def z_of(problem: Problem, buffers: Buffers) -> Tensor:
    """z [T, HV, V], where it stands in the packed projection."""
    qkvz, HV, V = buffers.qkvz.view, problem.HV, problem.V
    if problem.packing == "flat":
        return qkvz[:, problem.D :].unflatten(1, (HV, V))
    return qkvz.unflatten(1, (problem.H, -1))[:, :, -problem.ratio * V :].reshape(-1, HV, V)


def assert_only(before: Buffer, after: Buffer, index: list[int], name: str) -> None:
    """Nothing has changed but these of the first dimension, no bit around them either."""
    allowed = before.copy()
    allowed.view[index] = after.view[index]
    assert same_bits(allowed.storage, after.storage), f"{name} was written beyond {index}"


def assert_same(actual: Buffers, expected: Buffers, what: str) -> None:
    """Two launches left the same bits everywhere."""
    for name, buffer in expected.memory.items():
        assert same_bits(getattr(actual, name).storage, buffer.storage), f"{name}: {what}"
