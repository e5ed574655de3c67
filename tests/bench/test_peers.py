"""Contract: a peer is found or missing with the line that installs it, is fed as its interface asks, and computes."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import peers_interpreted
import pytest
import torch

from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, Results, Setting
from gdn_verify.bench.inputs import draw
from gdn_verify.bench.peers import aiter, fla, flashinfer, vllm
from gdn_verify.bench.peers.peer import PACKAGES, RECURRENCE, Peer
from gdn_verify.cases.contract import DType, Geometry
from gdn_verify.emulator import interpreter

MODULES = (fla, vllm, aiter, flashinfer)
INTERPRETED = [(fla, fla.FUSED_RECURRENT), *((module, peer) for module in (vllm, aiter) for peer in module.PEERS)]
LAYER = Geometry(2, 4, 128, 128)
ROUNDOFF = DType.BF16.unit_roundoff
STATE_BOUNDS = {DType.F32: 1e-5, DType.BF16: 2 * ROUNDOFF}


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package as good as not installed."""

    def hidden(package: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [_Absent(package), *sys.meta_path])

    monkeypatch.setenv("AITER_TRITON_ONLY", "1")  # AITER's adapter sets it; the test's end takes it back
    return hidden


@dataclass(frozen=True)
class _Absent:
    package: str

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_what_is_not_installed_is_missing_with_its_install_line(
    hide: Callable[[str], None], module: ModuleType
) -> None:
    """Every contender of an absent package says which package that is and how to get it."""
    package = module.__name__.rpartition(".")[2]
    hide(package)
    found = list(module.contenders())
    assert found
    for missing in found:
        assert isinstance(missing, Missing)
        assert missing.reason == f"{package} is not installed"
        assert missing.install == PACKAGES[package].install


def test_a_package_that_breaks_on_import_is_missing_with_its_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wheel built for another driver does not stop the bench; its own words are passed on."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "vllm.py").write_text("raise OSError('libcudart.so.99: cannot open')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (missing, *_) = vllm.contenders()
    assert isinstance(missing, Missing)
    assert missing.reason == "vllm cannot be imported here: OSError: libcudart.so.99: cannot open"


def test_the_versions_of_all_packages_called_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record names what was measured, a source tree without metadata included."""
    for package in ("vllm", "aiter"):
        module = ModuleType(package)
        monkeypatch.setattr(module, "run", print, raising=False)
        monkeypatch.setitem(sys.modules, package, module)
    versions = {"vllm": "0.33.0"}
    monkeypatch.setattr("gdn_verify.bench.peers.peer._version", lambda name: versions.get(name, "unversioned"))
    found = Peer("both", RECURRENCE, ("aiter:run", "vllm:run"), _nothing).contender()
    assert isinstance(found, Contender)
    assert found.version == "unversioned + vllm 0.33.0"


def _nothing(inputs: Inputs, *functions: Callable[..., Any]) -> Launch:
    return lambda: Results(inputs.out)


def test_flashinfer_needs_a_card_that_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed beside no card, an AMD card or an old one, it is missing, and no install line is offered."""
    package, module = ModuleType("flashinfer"), ModuleType("flashinfer.gdn_decode")
    module.gated_delta_rule_decode_pretranspose = print  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def reason(available: bool, capability: tuple[int, int], hip: str | None) -> str:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.version, "hip", hip)
        (found,) = flashinfer.contenders()
        return str(found) if isinstance(found, Missing) else ""

    assert reason(False, (0, 0), None) == "flashinfer-pretranspose: needs an NVIDIA card"
    assert reason(True, (9, 4), "7.2") == "flashinfer-pretranspose: needs an NVIDIA card"
    assert reason(True, (8, 9), None) == "flashinfer-pretranspose: needs SM90 or later, not SM89"
    assert reason(True, (9, 0), None) == ""


@pytest.mark.parametrize("state", [DType.F32, DType.BF16], ids=str)
def test_flashinfer_is_fed_as_its_interface_asks(state: DType) -> None:
    """q, k, v, a, b [N, 1, …] contiguous; the pool itself, the rows' slots in it, and `out` to be written."""
    inputs = draw(Setting(LAYER, 3, state), "cpu", 0, *_layout())
    seen: dict[str, Any] = {}
    results = flashinfer.PRETRANSPOSE.prepare(inputs, lambda **arguments: seen.update(arguments))()
    shapes = {"q": (3, 1, 2, 128), "k": (3, 1, 2, 128), "v": (3, 1, 4, 128), "a": (3, 1, 4), "b": (3, 1, 4)}
    assert {name: tuple(seen[name].shape) for name in shapes} == shapes
    assert all(seen[name].is_contiguous() for name in shapes)
    assert seen["initial_state"] is inputs.pool
    assert seen["initial_state_indices"] is inputs.state_indices
    assert seen["output"].data_ptr() == inputs.out.data_ptr()
    assert results.out is inputs.out


def _layout() -> tuple[Any, Any]:
    return Contender.state_order, Contender.conv_layout


def test_settings_beyond_an_interface_are_refused_with_the_reason() -> None:
    """Drafts, a head dimension or a state dtype that a kernel does not take."""
    drafts = Setting(Geometry(2, 4, 128, 128, num_spec=3), 1, DType.F32)
    assert fla.FUSED_RECURRENT.refuses(drafts) == "decodes one token a row, not S=4"
    assert flashinfer.PRETRANSPOSE.refuses(drafts) == "decodes one token a row, not S=4"
    small = Setting(Geometry(2, 4, 64, 64), 1, DType.F32)
    assert flashinfer.PRETRANSPOSE.refuses(small) == "takes K = V = 128, not K=64, V=64"
    narrow = Setting(LAYER, 1, DType.F16)
    assert flashinfer.PRETRANSPOSE.refuses(narrow) == "takes float32 and bfloat16 states, not float16"
    assert fla.FUSED_RECURRENT.refuses(narrow) == "returns its states in float32, not in float16"
    assert fla.FUSED_RECURRENT.refuses(Setting(LAYER, 1, DType.F32)) is None
    assert flashinfer.PRETRANSPOSE.refuses(Setting(LAYER, 1, DType.BF16)) is None


@pytest.fixture(scope="module")
def relative_errors() -> Iterator[Callable[..., tuple[float, float] | str]]:
    """`peers_interpreted.relative_errors`, in a process with the interpreter."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=interpreter.install) as pool:
        yield lambda *args: pool.submit(peers_interpreted.relative_errors, *args).result(timeout=300)


@pytest.mark.parametrize(
    ("module", "peer", "state"),
    [
        pytest.param(module, peer, state, id=f"{peer.name}-{state}")
        for module, peer in INTERPRETED
        for state in STATE_BOUNDS
        if peer.refuses(Setting(LAYER, 1, state)) is None
    ],
)
def test_peers_agree_with_the_fallback(
    relative_errors: Callable[..., tuple[float, float] | str], module: ModuleType, peer: Peer, state: DType
) -> None:
    """Output and states, in the interpreter; a whole decode rounds its conv and o too, and each product in the conv."""
    errors = relative_errors(module.__name__, peer.name, state)
    if isinstance(errors, str):
        pytest.skip(errors)
    out, states = errors
    whole = peer.span != RECURRENCE and peer is not fla.FUSED_RECURRENT
    assert out < (8 if whole else 2) * ROUNDOFF
    assert states < (4 * ROUNDOFF if whole else STATE_BOUNDS[state])


def test_the_comparison_sees_a_forgotten_decay(relative_errors: Callable[..., tuple[float, float] | str]) -> None:
    """The bounds above are far below what a wrong kernel shows."""
    errors = relative_errors(fla.__name__, fla.FUSED_RECURRENT.name, DType.F32, True)
    if isinstance(errors, str):
        pytest.skip(errors)
    assert min(errors) > 8 * ROUNDOFF
