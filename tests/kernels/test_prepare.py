"""`prepare`: the bits of `unpack`, contiguous, from one generated kernel for all numbers of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor import metrics

from gdn_verify.kernels import prepare as module
from gdn_verify.kernels.prepare import compile_missing, compiled, prepare, rearrange
from gdn_verify.kernels.stages import unpack

from .launches import same_bits

H, K, V = 2, 6, 10
DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]
RATIOS = (1, 2, 3, 4, 6, 8)
PACKINGS = ("flat", "interleaved")


@pytest.fixture
def compiler() -> Iterator[None]:
    """A compiler, or no test; what it makes is counted from here on."""
    for device in DEVICES:
        if reason := compile_missing(device):
            pytest.skip(reason)
    metrics.reset()
    counters.clear()
    yield
    compiled.cache_clear()


def geometry(ratio: int) -> tuple[int, int, int, int]:
    return H, ratio * H, K, V


def inputs(tokens: int, ratio: int, dtype: torch.dtype = torch.bfloat16, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """qkvz and ba of random bits, NaNs of every sort among them."""
    _, HV, _, _ = geometry(ratio)
    width = torch.empty(0, dtype=dtype).element_size()
    shapes = ((tokens, 2 * H * K + 2 * HV * V), (tokens, 2 * HV))
    make = torch.Generator().manual_seed(tokens)
    raw = (torch.randint(256, (T, n * width), generator=make, dtype=torch.uint8) for T, n in shapes)
    qkvz, ba = (x.to(device).view(dtype) for x in raw)
    return qkvz, ba


def assert_prepared(qkvz: Tensor, ba: Tensor, ratio: int, packing: str) -> None:
    """`prepare` gives what it should."""
    assert_unpacked(prepare(qkvz, ba, *geometry(ratio), packing), qkvz, ba, ratio, packing)


def assert_unpacked(actual: tuple[Tensor, ...], qkvz: Tensor, ba: Tensor, ratio: int, packing: str) -> None:
    """Contiguous, and bit for bit what `unpack` gives."""
    for got, want in zip(actual, unpack(qkvz, ba, *geometry(ratio), packing), strict=True):
        assert got.is_contiguous()
        assert same_bits(got, want)


@pytest.mark.parametrize(("ratio", "packing"), list(product(RATIOS, PACKINGS)))
def test_what_is_compiled_has_the_bits_of_unpack(ratio, packing):
    """`rearrange` run eagerly, for every ratio and packing."""
    qkvz, ba = inputs(5, ratio)
    assert_unpacked(rearrange(qkvz, ba, geometry(ratio), packing), qkvz, ba, ratio, packing)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("ratio", "packing"),
    [
        # A compilation takes seconds; by default every packing has one.
        (3, "flat"),
        (4, "interleaved"),
        *(
            pytest.param(r, p, marks=pytest.mark.slow)
            for r, p in product(RATIOS, PACKINGS)
            if (r, p) not in ((3, "flat"), (4, "interleaved"))
        ),
    ],
)
def test_one_kernel_serves_all_numbers_of_tokens(ratio, packing, device):
    """One graph, one kernel, the bits of `unpack`."""
    for tokens in (5, 2, 64, 33):
        assert_prepared(*inputs(tokens, ratio, device=device), ratio, packing)
    assert counters["stats"]["unique_graphs"] == 1
    assert metrics.generated_kernel_count == 1


@pytest.mark.usefixtures("compiler")
def test_without_the_option_there_are_more_kernels():
    """The control: what is counted above does grow where inductor writes part by part."""
    torch.compile(lambda qkvz, ba: rearrange(qkvz, ba, geometry(2), "flat"))(*inputs(5, 2))
    assert metrics.generated_kernel_count > 1


@pytest.mark.usefixtures("compiler")
def test_no_token_and_one_token_are_their_own_graphs():
    """The two sizes that compilers take for constants; more are not compiled."""
    for tokens in (0, 1, 7, 0, 1, 8):
        assert_prepared(*inputs(tokens, 2), 2, "interleaved")
    assert counters["stats"]["unique_graphs"] == 3


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_may_be_strided_and_of_any_dtype(dtype):
    """Columns of a wider projection, as a fused matrix product leaves them."""
    wide = [torch.cat([x, x], dim=1) for x in inputs(5, 3, dtype)]
    narrow = [x[:, : x.shape[1] // 2] for x in wide]
    assert_prepared(*narrow, 3, "interleaved")


@pytest.mark.usefixtures("compiler")
def test_many_geometries_are_all_compiled():
    """More than the compiler's limit for one function; each has constants of its own, and one graph."""
    limit = torch._dynamo.config.recompile_limit
    program = compiled(geometry(1), "flat")
    assert compiled(geometry(1), "flat") is program
    names = {compiled(geometry(r), p) for r, p in product(RATIOS, PACKINGS)}
    assert len(names) > limit
    codes = {function._torchdynamo_orig_callable.__code__ for function in names}
    assert len(codes) == len(names)


def test_without_a_compiler_eager_kernels_fill_the_same_buffer(monkeypatch):
    """The reason is there to be asked for, and the results are the same."""
    compile_missing.cache_clear()
    tried = []
    monkeypatch.setattr(module.torch, "compile", lambda *_, **__: tried.append(1) or 1 / 0)
    for packing in PACKINGS:
        assert_prepared(*inputs(5, 2), 2, packing)
    reason = compile_missing("cpu")
    compile_missing.cache_clear()
    assert reason == "torch.compile does not run on cpu: ZeroDivisionError: division by zero"
    assert tried == [1]


def test_gradients_flow_through_the_eager_kernels():
    """Integers carry none, so inputs that ask for one are not compiled."""
    qkvz, ba = torch.ones(3, 2 * H * K + 2 * H * V, requires_grad=True), torch.ones(3, 2 * H)
    mixed_qkv, z, _, _ = prepare(qkvz, ba, *geometry(1))
    (mixed_qkv.sum() + 2 * z.sum()).backward()
    assert qkvz.grad is not None
    assert qkvz.grad.unique().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ba": torch.ones(4, 4)}, "ba has shape"),
        ({"ba": torch.ones(3, 4, dtype=torch.float16)}, "ba has dtype"),
        ({"qkvz": torch.ones(3, 9)}, "qkvz has shape"),
        ({"packing": "tight"}, "packing='tight'"),
        ({"num_v_heads": 3}, "num_v_heads=3"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    """As `unpack` refuses it, not as a compiler would."""
    good = {"qkvz": torch.ones(3, 2 * H * K + 2 * H * V), "ba": torch.ones(3, 2 * H), "num_k_heads": H}
    sizes = {"num_v_heads": H, "head_k_dim": K, "head_v_dim": V}
    with pytest.raises(ValueError, match=message):
        prepare(**{**good, **sizes, **change})
