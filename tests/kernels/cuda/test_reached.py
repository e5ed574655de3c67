"""The same results by the operators and by the dispatcher, where those are asked for the CUDA kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gdn_verify.kernels import fast, ops
from gdn_verify.kernels.cuda.observe import observed
from gdn_verify.kernels.cuda.prefill import chunk_delta
from gdn_verify.kernels.dispatch import gated_delta_net_packed
from gdn_verify.kernels.plan import LaunchPlan

from ..triton.accounts import assert_same
from ..triton.families import operands, options
from ..triton.problems import Problem
from ..triton.situations import DRAFTS
from .launching import launch
from .test_chunk_delta import ROWS

DECODED = Problem(starts=True, bias=True, gap=4)
DRAFTED = replace(DRAFTS, bias=True, gap=4)


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    """Whether cpu tensors are taken depends on a variable."""
    fast.kernels_missing.cache_clear()


def operated(problem, on) -> None:
    """By the operator."""
    if problem.width is None:
        ops.cuda.fused_decode(*operands(problem, on), query_start_loc=on.query_start_loc, **options(problem, on))
        return
    ops.cuda.fused_spec_decode(
        *operands(problem, on), on.query_start_loc, on.tables.num_accepted_tokens, spec_rows=on.tables.spec_rows,
        **options(problem, on),
    )  # fmt: skip


def dispatched(problem, on) -> None:
    """By the dispatcher, with the plan that a server has."""
    plan = LaunchPlan(decode=problem.width is None, spec=problem.width is not None, prefill=False)
    gated_delta_net_packed(
        *operands(problem, on)[:5], on.tables, packing=problem.packing, state_order=problem.state_order,
        output=on.output.view, z_output=on.z_output.view, plan=plan, kernel="cuda",
    )  # fmt: skip


@pytest.mark.parametrize("reach", [operated, dispatched])
@pytest.mark.parametrize(("problem", "kernel"), [(DECODED, "gdn_cuda_decode"), (DRAFTED, "gdn_cuda_spec")])
def test_the_kernel_is_reached_and_leaves_the_same(problem, kernel, reach):
    """Bit for bit, and nothing else is launched."""
    direct, other = problem.buffers(), problem.buffers()
    launch(problem, direct)
    names: list[str] = []
    with observed(lambda name, _: names.append(name)):
        reach(problem, other)
    assert names == [kernel]
    assert_same(other, direct, reach.__name__)


def test_prompts_are_not_taken_without_triton():
    """Of cpu tensors, as Triton's interpreter is not active: the reason is Triton's."""
    from gdn_verify.kernels.operands import Operands

    on = DECODED.buffers()
    made = Operands(*operands(DECODED, on)[:5], on.tables)
    kernels = fast.kernels("cuda")
    assert kernels.decode_refuses(made) is None
    assert "riton" in (kernels.prefill_refuses(made) or "")


@pytest.mark.parametrize("name", ["cuda_fused_decode", "cuda_fused_spec_decode"])
def test_the_operator_tells_what_it_writes(name):
    """Pools and outputs, and nothing else."""
    schema = getattr(torch.ops.gdn_verify, name).default._schema
    written = {argument.name for argument in schema.arguments if argument.alias_info and argument.alias_info.is_write}
    assert written == {"conv_pool", "pool", "output", "z_output"}


def test_the_recurrence_by_its_operator():
    """The same bits, in one launch; what it has not is refused."""
    operands, tables, (direct, other) = ROWS.inputs(), ROWS.tables(), (ROWS.states(), ROWS.states())
    names: list[str] = []
    wanted = chunk_delta(*operands, direct.view, tables, scale=0.3)
    with observed(lambda name, _: names.append(name)):
        got = ops.cuda.chunk_delta(*operands, other.view, tables, scale=0.3)
    assert names == ["gdn_cuda_chunk_delta"]
    assert torch.equal(got, wanted)
    assert torch.equal(other.storage.view(torch.uint8), direct.storage.view(torch.uint8))
    with pytest.raises(ValueError, match="use kernels='fused'"):
        ops.cuda.chunk_delta(*operands, other.view, tables, exact=True)
