"""Contract: a prefill peer is found or missing, is fed as its interface asks, and computes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from types import ModuleType
from typing import Any

import peers_interpreted
import prefilled
import pytest
import torch

from gdn_verify.bench import field
from gdn_verify.bench.contender import Missing
from gdn_verify.bench.peers import aiter, fla, flashinfer, vllm
from gdn_verify.bench.peers.peer import PACKAGES, Peer
from gdn_verify.bench.prefill.inputs import draw
from gdn_verify.cases.contract import DType, Geometry, StateOrder
from gdn_verify.emulator import interpreter

INTERPRETED = ((fla, "fla-chunk"), (vllm, "vllm-chunk"), (aiter, "aiter-chunk-opt-vk"))
WIDE = Geometry(2, 4, 128, 128)


def test_everybody_is_named_whether_installed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours first; a peer that is absent says what would change it."""

    def absent(function: str) -> None:
        package = function.partition(".")[0]
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("gdn_verify.bench.peers.peer.resolve_name", absent)
    monkeypatch.setenv("AITER_TRITON_ONLY", "1")  # AITER's adapter sets it; the test's end takes it back
    found = {one.name: one for one in field.gather_prefill()}
    cuda = found.pop("gdn-verify's CUDA kernels", None) or found.pop("cuda-chunk-delta")
    assert isinstance(cuda, Missing) != torch.cuda.is_available()
    assert list(found) == [
        "chunk-delta",
        "fla-chunk",
        "vllm-chunk",
        "aiter-chunk-opt-vk",
        "flashinfer-chunk",
        "flashinfer-chunk-normed",
    ]
    for name, package in zip(list(found)[1:], ("fla", "vllm", "aiter", "flashinfer", "flashinfer"), strict=True):
        missing = found[name]
        assert isinstance(missing, Missing)
        assert missing.reason == f"{package} is not installed"
        assert missing.install == PACKAGES[package].install


def test_an_adapter_that_breaks_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its error; the others take part."""
    monkeypatch.setattr(field, "PEERS", ("nobody",))
    found = list(field.gather_prefill())
    assert isinstance(found[-1], Missing)
    assert "does not import: ModuleNotFoundError" in found[-1].reason


def test_settings_beyond_an_interface_are_refused_with_the_reason() -> None:
    """A state dtype that would come back wider, heads of another width."""
    narrow = prefilled.setting(WIDE, state=DType.BF16)
    for peer in (fla.CHUNK, vllm.CHUNK):
        assert peer.refuses(narrow) == "returns its states in float32, not in bfloat16"
        assert peer.refuses(prefilled.setting(WIDE)) is None
    assert aiter.CHUNK.refuses(narrow) is flashinfer.CHUNK.refuses(narrow) is None
    assert flashinfer.CHUNK_NORMED.refuses(prefilled.setting()) == "takes K = V = 128, not K=8, V=16"


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("peer", [flashinfer.CHUNK, flashinfer.CHUNK_NORMED], ids=lambda peer: peer.name)
def test_flashinfer_is_fed_as_its_interface_asks(peer: Peer, fresh: bool) -> None:
    """e^g, contiguous operands, `out` to be written, states in the rows' order, q and k normalised by one of both."""
    inputs = draw(prefilled.setting(WIDE, fresh=fresh), "cpu", 0, StateOrder.VK)
    given: list[torch.Tensor] = []
    seen: dict[str, Any] = {}
    results = peer.prepare(inputs, lambda *tensors, **options: (given.extend(tensors), seen.update(options)))()
    q, k, v, alpha, beta = given
    assert all(x.is_contiguous() for x in given)
    assert torch.equal(alpha, inputs.g.exp())
    assert v is inputs.v
    assert beta is inputs.beta
    assert seen["use_qk_l2norm_in_kernel"] is (peer is flashinfer.CHUNK)
    assert (q is inputs.q) is (k is inputs.k) is seen["use_qk_l2norm_in_kernel"]
    if peer is flashinfer.CHUNK_NORMED:
        assert k.float().norm(dim=-1).sub(1).abs().max() < 0.01
    assert seen["max_seqlen"] == max(prefilled.LENGTHS)
    assert seen["cu_seqlens"] is inputs.query_start_loc
    assert (seen["initial_state"] is None) is fresh
    assert seen["output"] is results.out is inputs.out
    assert seen["output_state"] is results.states


@pytest.fixture(scope="module")
def prefill_errors() -> Iterator[Callable[..., tuple[float, float] | str]]:
    """`peers_interpreted.prefill_errors`, in a process with the interpreter."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=interpreter.install) as pool:
        yield lambda *args: pool.submit(peers_interpreted.prefill_errors, *args).result(timeout=300)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("module", "name"), INTERPRETED, ids=[name for _, name in INTERPRETED])
def test_peers_agree(
    prefill_errors: Callable[..., tuple[float, float] | str], module: ModuleType, name: str, fresh: bool
) -> None:
    """Rows within a chunk and beyond one, with states and without, in the interpreter."""
    errors = prefill_errors(module.__name__, name, (70, 3), fresh)
    if isinstance(errors, str):
        pytest.skip(errors)
    ratio, limit = errors
    assert 0.0 < ratio < 2.5 < limit


def test_the_judge_sees_a_forgotten_decay(prefill_errors: Callable[..., tuple[float, float] | str]) -> None:
    """Far beyond the limit."""
    errors = prefill_errors(fla.__name__, "fla-chunk", (20,), False, True)
    if isinstance(errors, str):
        pytest.skip(errors)
    ratio, limit = errors
    assert ratio > 2 * limit
