"""The operators: registered as PyTorch asks, the kernels' results eagerly and compiled, and no Triton before a call."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gdn_verify
from gdn_verify.kernels import ops

from .accounts import assert_same
from .families import conv_launch, delta_launch, launch, mixed_buffer, operands, options
from .problems import Buffer, Buffers, Problem, draft, one_each
from .situations import DRAFTS

NAMES = ("fused_decode", "fused_spec_decode", "conv_update", "delta_update")
DECODED = Problem(starts=True, bias=True, gap=4)
PROBLEMS = {"fused_decode": DECODED, "fused_spec_decode": replace(DRAFTS, bias=True, gap=4)}
PROBLEMS |= dict.fromkeys(("conv_update", "delta_update"), DECODED)
Call = Callable[[Problem, Buffers, Buffer], Any]


def _decode(problem: Problem, on: Buffers, mixed_qkv: Buffer) -> Tensor:
    return ops.fused_decode(*operands(problem, on), query_start_loc=on.query_start_loc, **options(problem, on))


def _spec(problem: Problem, on: Buffers, mixed_qkv: Buffer) -> Tensor:
    return ops.fused_spec_decode(
        *operands(problem, on), on.query_start_loc, on.tables.num_accepted_tokens, spec_rows=on.tables.spec_rows,
        **options(problem, on),
    )  # fmt: skip


def _conv(problem: Problem, on: Buffers, mixed_qkv: Buffer) -> None:
    ops.conv_update(
        on.qkvz.view, on.layer, on.conv_pool.view, on.tables.state_indices, mixed_qkv.view, on.z_output.view,
        query_start_loc=on.query_start_loc, packing=problem.packing, pad_slot_id=problem.pad_slot_id,
    )  # fmt: skip


def _delta(problem: Problem, on: Buffers, mixed_qkv: Buffer) -> Tensor:
    keywords = {name: value for name, value in options(problem, on).items() if name not in ("output", "z_output")}
    return ops.delta_update(
        mixed_qkv.view, on.ba.view, on.layer, on.pool.view, on.tables.state_indices, on.output.view,
        query_start_loc=on.query_start_loc, **keywords,
    )  # fmt: skip


CALLS: dict[str, Call] = dict(zip(NAMES, (_decode, _spec, _conv, _delta), strict=True))
KERNELS: dict[str, Call] = {
    "fused_decode": lambda problem, on, mixed_qkv: launch(problem, on),
    "fused_spec_decode": lambda problem, on, mixed_qkv: launch(problem, on),
    "conv_update": conv_launch,
    "delta_update": delta_launch,
}


def filled(problem: Problem) -> tuple[Buffers, Buffer]:
    """The launch in memory, and a conv's output to start the delta rule from."""
    on, mixed_qkv = problem.buffers(), mixed_buffer(problem, problem.buffers())
    mixed_qkv.view.normal_(generator=torch.Generator().manual_seed(1))
    return on, mixed_qkv


def check_call(name: str, call: Call, problem: Problem) -> None:
    """In the interpreter's process: the bits that the kernel's own function leaves."""
    (expected, mixed_expected), (actual, mixed_actual) = filled(problem), filled(problem)
    KERNELS[name](problem, expected, mixed_expected)
    call(problem, actual, mixed_actual)
    assert_same(actual, expected, name)
    assert torch.equal(mixed_actual.storage.view(torch.int32), mixed_expected.storage.view(torch.int32))


def check_eager(name: str) -> None:
    """In the interpreter's process: the operator, called as it is."""
    check_call(name, CALLS[name], PROBLEMS[name])


# No number of rows or tokens is any other size of these problems: equal sizes would count as one.
SIZES = {"H": 1, "K": 9, "slots": 23, "spare": 4}
LAUNCHES = (one_each(*range(11)), one_each(2, 9, 4))
DRAFT_ROWS = tuple(draft(1 + n % 3, 1, *range(3 * n, 3 * n + 3)) for n in range(6))
DRAFT_LAUNCHES = (DRAFT_ROWS, DRAFT_ROWS[1:3])


def check_compiled(name: str, backend: str) -> int:
    """In the interpreter's process: the operator in one whole graph, at two sizes; the graphs that it took."""
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    compiled = torch.compile(CALLS[name], fullgraph=True, backend=backend, dynamic=True)
    for rows in DRAFT_LAUNCHES if name == "fused_spec_decode" else LAUNCHES:
        check_call(name, compiled, replace(PROBLEMS[name], rows=rows, **SIZES))
    return graphs["unique_graphs"]


def check_made_output(backend: str) -> None:
    """In the interpreter's process: an output that the call makes itself, used by what follows in the graph."""
    problem = Problem(rows=one_each(3, 7, 1))

    def program(qkvz: Tensor, ba: Tensor, *rest: Any) -> Tensor:
        return ops.fused_decode(2 * qkvz, ba, *rest) + 1

    eager, compiled = problem.buffers(), problem.buffers()
    expected = program(*operands(problem, eager))
    torch._dynamo.reset()
    actual = torch.compile(program, fullgraph=True, backend=backend)(*operands(problem, compiled))
    assert torch.equal(actual, expected)
    assert_same(compiled, eager, "compiled")


UTILITIES = ("schema", "autograd_registration", "faketensor", "aot_dispatch_static", "aot_dispatch_dynamic")
UTILITIES = tuple(f"test_{name}" for name in UTILITIES)


class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the operators of ours that are called, with their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func.namespace == "gdn_verify":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def check_registration(name: str) -> dict[str, str]:
    """In the interpreter's process: what PyTorch's own check says of the operator, utility by utility."""
    on, mixed_qkv = filled(replace(PROBLEMS[name], gap=0))
    with Recorder() as recorder:
        CALLS[name](PROBLEMS[name], on, mixed_qkv)
    ((operator, arguments),) = recorder.calls
    fresh = tuple(x.clone() if isinstance(x, Tensor) else x for x in arguments)
    return torch.library.opcheck(operator, fresh, test_utils=UTILITIES)


@pytest.fixture
def triton():
    """These run kernels."""
    pytest.importorskip("triton")


@pytest.mark.parametrize("name", NAMES)
def test_an_operator_does_what_its_kernel_does(triton, interpreted, name):
    """Bit for bit, in all that it writes."""
    interpreted(check_eager, name)


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_finds_nothing_wrong_with_the_registration(triton, interpreted, name):
    """Schema, mutation, fake implementation, autograd and tracing, static and dynamic."""
    outcome = interpreted(check_registration, name)
    assert outcome == dict.fromkeys(UTILITIES, "SUCCESS")


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", NAMES)
def test_one_graph_serves_all_sizes(triton, interpreted, name, backend):
    """Compiled whole, once, and the kernel's bits for every number of rows."""
    assert interpreted(check_compiled, name, backend) == 1


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_an_output_is_made_where_none_is_given(triton, interpreted, backend):
    """And what comes before and after in the graph is in order with it."""
    interpreted(check_made_output, backend)


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_is_refused(name):
    """A caller who forgot no_grad would lose it in silence."""
    problem = PROBLEMS[name]
    on, mixed_qkv = filled(problem)
    on.layer.conv_weight.requires_grad_()
    with pytest.raises(RuntimeError, match=r"call under torch.no_grad\(\)"):
        CALLS[name](problem, on, mixed_qkv)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_kernel_to_run_a_call_says_what_to_install(name):
    """Here there is no interpreter: the reason, and the way out."""
    on, mixed_qkv = filled(PROBLEMS[name])
    with pytest.raises(RuntimeError, match=f"gdn_verify.{name} cannot run: .*; .*pip install 'gdn-verify"):
        CALLS[name](PROBLEMS[name], on, mixed_qkv)


SOURCE = """
    import sys, torch
    from gdn_verify.kernels import ops
    from gdn_verify.kernels.fallback import Layer
    torch.ops.gdn_verify.fused_decode.default
    print([name for name in sys.modules if name.split(".")[0] == "triton"])
    sys.modules["triton"] = None  # as if it were not installed
    layer = Layer(1, 1, 2, 2, torch.ones(6, 4), torch.ones(1), torch.ones(1))
    slots = torch.zeros(1, dtype=torch.int64)
    try:
        ops.fused_decode(
            torch.ones(1, 8), torch.ones(1, 2), layer, torch.ones(2, 6, 3), torch.ones(2, 1, 2, 2), slots
        )
    except RuntimeError as error:
        print(error)
"""


def test_triton_is_needed_by_calls_only():
    """The module imports and registers without it, and a call says what is missing."""
    path = os.pathsep.join([str(Path(gdn_verify.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SOURCE)], env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    imported, error = done.stdout.splitlines()
    assert imported == "[]"
    assert "cannot run: triton is not installed; torch's CUDA and ROCm builds bring Triton" in error
