"""The operators of prefill, as those of decode in `test_ops`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gdn_verify.kernels import ops
from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.rows import Tables

from ..launches import same_bits
from .problems import Buffer
from .test_ops import UTILITIES, Recorder
from .test_prefill import Prefill

NAMES = ("chunked_prefill", "conv_prefill", "chunk_delta")
ROWS = ((5, 3, 9, True), (2, -1, 2, True), (66, 5, 10, False), (0, 1, 1, False), (1, 0, 11, True))
# No number of rows or tokens is any other size of these problems: equal sizes would count as one.
PROBLEM = Prefill(ROWS, H=1, ratio=2, K=11, V=9, slots=23, spare=4, reads=True, tail=1)
LAUNCHES = (ROWS, (*ROWS[1:4], (12, 7, 13, True)))
On = dict[str, Buffer]
Call = Callable[[Any, Prefill, Layer, Tables, On], Tensor]


def _chunked(where: Any, problem: Prefill, layer: Layer, tables: Tables, on: On) -> Tensor:
    return where.chunked_prefill(
        on["qkvz"].view, on["ba"].view, layer, on["conv_pool"].view, on["pool"].view, tables,
        packing=problem.packing, state_order=problem.state_order, output=on["output"].view,
        z_output=on["z_output"].view, checkpoints=on["checkpoints"].view, checkpoint_every=64,
    )  # fmt: skip


def _conv(where: Any, problem: Prefill, layer: Layer, tables: Tables, on: On) -> Tensor:
    return where.conv_prefill(
        on["qkvz"].view, layer, on["conv_pool"].view, tables, packing=problem.packing, output=on["mixed"].view
    )


def _delta(where: Any, problem: Prefill, layer: Layer, tables: Tables, on: On) -> Tensor:
    return where.chunk_delta(
        on["q"].view, on["k"].view, on["v"].view, on["g"].view, on["g"].view, on["pool"].view, tables,
        scale=0.5, state_order=problem.state_order, output=on["output"].view,
        checkpoints=on["checkpoints"].view, checkpoint_every=64,
    )  # fmt: skip


CALLS: dict[str, Call] = dict(zip(NAMES, (_chunked, _conv, _delta), strict=True))


class Kernels:
    """The kernels' own functions, under the names of the operators."""

    def __getattr__(self, name: str) -> Any:
        from importlib import import_module

        module = {"chunked_prefill": "prefill", "conv_prefill": "conv_prefill", "chunk_delta": "chunk"}[name]
        return getattr(import_module(f"gdn_verify.kernels.triton.{module}"), name)


def filled(problem: Prefill) -> tuple[Layer, Tables, On]:
    """The launch in memory, with what its parts are to start from."""
    layer, make = problem.layer(), torch.Generator().manual_seed(6)
    T, HV = problem.tokens, layer.num_v_heads
    made = problem.buffers(layer) | {"mixed": Buffer.make((T, layer.channels), problem.dtype)}
    made["checkpoints"] = Buffer.make((2, *made["pool"].view.shape[1:]), torch.bfloat16)
    for name, shape in (("q", (T, 1, problem.K)), ("k", (T, 1, problem.K)), ("v", (T, HV, problem.V)), ("g", (T, HV))):
        made[name] = Buffer.make(shape, problem.dtype)
        made[name].view.copy_(-torch.rand(shape, generator=make))
    return layer, problem.tables(), made


def check_call(name: str, call: Callable[[On, Layer, Tables], Tensor], problem: Prefill) -> None:
    """In the interpreter's process: the bits that the kernel's own function leaves."""
    (layer, tables, expected), (_, _, actual) = filled(problem), filled(problem)
    CALLS[name](Kernels(), problem, layer, tables, expected)
    call(actual, layer, tables)
    for buffer, wanted in expected.items():
        assert same_bits(actual[buffer].storage, wanted.storage), buffer


def check_eager(name: str) -> None:
    """In the interpreter's process: the operator, called as it is."""
    check_call(name, lambda on, layer, tables: CALLS[name](ops, PROBLEM, layer, tables, on), PROBLEM)


def check_compiled(name: str, backend: str) -> int:
    """In the interpreter's process: the operator in one whole graph, at two sizes; the graphs that it took."""
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()

    def program(on: On, layer: Layer, tables: Tables) -> Tensor:
        return CALLS[name](ops, PROBLEM, layer, tables, on)

    compiled = torch.compile(program, fullgraph=True, backend=backend, dynamic=True)
    for rows in LAUNCHES:
        check_call(name, compiled, replace(PROBLEM, rows=rows))
    return graphs["unique_graphs"]


def check_made_output(backend: str) -> None:
    """In the interpreter's process: outputs that the calls make themselves, used by what follows in the graph."""
    layer, tables, on = filled(PROBLEM)
    _, _, again = filled(PROBLEM)

    def program(on: On) -> Tensor:
        packed = on["qkvz"].view, on["ba"].view, layer, on["conv_pool"].view, on["pool"].view, tables
        mixed = ops.conv_prefill(packed[0], layer, on["conv_pool"].view, tables)[: PROBLEM.tokens - 1]
        o = ops.chunk_delta(
            on["q"].view, on["k"].view, on["v"].view, on["g"].view, on["g"].view, on["pool"].view, tables
        )
        return ops.chunked_prefill(2 * packed[0], *packed[1:]) + o + mixed.sum()

    expected = program(on)
    torch._dynamo.reset()
    actual = torch.compile(program, fullgraph=True, backend=backend)(again)
    assert same_bits(actual, expected)
    for name in ("conv_pool", "pool"):
        assert same_bits(again[name].storage, on[name].storage), name


def check_registration(name: str) -> dict[str, str]:
    """In the interpreter's process: what PyTorch's own check says of the operator, utility by utility."""
    layer, tables, on = filled(PROBLEM)
    with Recorder() as recorder:
        CALLS[name](ops, PROBLEM, layer, tables, on)
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
    assert interpreted(check_registration, name) == dict.fromkeys(UTILITIES, "SUCCESS")


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", NAMES)
def test_one_graph_serves_all_sizes(triton, interpreted, name, backend):
    """Compiled whole, once, and the kernel's bits for every number of rows and tokens."""
    assert interpreted(check_compiled, name, backend) == 1


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_outputs_are_made_where_none_are_given(triton, interpreted, backend):
    """And what comes before and after in the graph is in order with them."""
    interpreted(check_made_output, backend)


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_is_refused(name):
    """A caller who forgot no_grad would lose it in silence."""
    layer, tables, on = filled(PROBLEM)
    (on["v"].view if name == "chunk_delta" else layer.conv_weight).requires_grad_()
    with pytest.raises(RuntimeError, match=r"call under torch.no_grad\(\)"):
        CALLS[name](ops, PROBLEM, layer, tables, on)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_kernel_to_run_a_call_says_what_to_install(name):
    """Here there is no interpreter: the reason, and the way out."""
    layer, tables, on = filled(PROBLEM)
    with pytest.raises(RuntimeError, match=f"gdn_verify.{name} cannot run: .*; .*pip install 'gdn-verify"):
        CALLS[name](ops, PROBLEM, layer, tables, on)
