"""`chunked_prefill` in the interpreter: the fallback's layer core, and no other bit touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gdn_verify.kernels import fallback
from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.stages import unpack

from ..launches import same_bits
from .plain_rows import UNWRITTEN, PlainRows
from .problems import FLOATS, Buffer

pytest.importorskip("triton")
EXACT, HALF, ANY = 5e-5, 2e-2, 0.2
"""Relative errors of a row's output and state, as norms: of float32 sums, of what is rounded to bfloat16, and of that
in rows of a few numbers, which may cancel."""


@dataclass(frozen=True)
class Prefill(PlainRows):
    """A launch. `gap` elements lie between tokens and between slots, `spare` columns behind a conv state."""

    H: int = 1
    ratio: int = 2
    K: int = 8
    V: int = 12
    W: int = 4
    packing: str = "flat"
    state_order: str = "VK"
    dtype: torch.dtype = torch.float32
    pool: torch.dtype = torch.float32
    conv: torch.dtype = torch.float32
    result: torch.dtype | None = None
    bias: bool = False
    activation: str | None = "silu"
    norm: str | None = "silu"
    scale: float | None = None
    beta_scale: float = 1.0
    inside: bool = True
    spare: int = 0
    gap: int = 0
    z: bool = True
    zero_pads: bool = True
    exact: bool = False

    @property
    def tokens(self) -> int:
        return sum(row[0] for row in self.rows) + self.tail

    def layer(self) -> Layer:
        make, HV = torch.Generator().manual_seed(1), self.H * self.ratio
        D = 2 * self.H * self.K + HV * self.V

        def parameter(*shape: int) -> Tensor:
            return torch.randn(shape, generator=make).to(self.dtype)

        return Layer(
            self.H, HV, self.K, self.V, parameter(D, self.W), parameter(HV).float(), parameter(HV),
            conv_bias=parameter(D) if self.bias else None, norm_weight=parameter(self.V) if self.norm else None,
            conv_activation=self.activation, norm_activation=self.norm or "silu", scale=self.scale,
            beta_scale=self.beta_scale,
        )  # fmt: skip

    def live(self) -> list[tuple[slice, int]]:
        """(tokens, slot) of each live row."""
        found, start = [], 0
        for length, slot, read, known in self.rows:
            looked_at = [slot, read] if self.reads and (known or not self.known) else [slot]
            if length and all(0 <= s < self.slots and s != self.pad_slot_id for s in looked_at):
                found.append((slice(start, start + length), slot))
            start += length
        return found

    def buffers(self, layer: Layer) -> dict[str, Buffer]:
        """NaN wherever a live row does not read; outputs hold `UNWRITTEN`."""
        make, HV = torch.Generator().manual_seed(2), layer.num_v_heads
        inner = (self.V, self.K) if self.state_order == "VK" else (self.K, self.V)
        shape, columns = (self.tokens, HV, self.V), self.W - 1 + self.spare
        made = {
            "qkvz": Buffer.make((self.tokens, layer.channels + HV * self.V), self.dtype, gap=self.gap),
            "ba": Buffer.make((self.tokens, 2 * HV), self.dtype, gap=self.gap),
            "conv_pool": Buffer.make(
                (self.slots, layer.channels, columns), self.conv, gap=self.gap, swap=not self.inside
            ),
            "pool": Buffer.make((self.slots, HV, *inner), self.pool, gap=self.gap),
            "output": Buffer.make(shape, self.result or self.dtype, gap=self.gap, fill=UNWRITTEN),
            "z_output": Buffer.make(shape, self.dtype, gap=self.gap, fill=UNWRITTEN),
        }
        read = [made[name].view[tokens] for tokens, _ in self.live() for name in ("qkvz", "ba")]
        for slot in self.filled:
            read += [made["conv_pool"].view[slot, :, : self.W - 1], made["pool"].view[slot]]
        for x in read:
            x.copy_(torch.randn(x.shape, generator=make))
        return made


def launch(problem: Prefill, layer: Layer, on: dict[str, Buffer]) -> None:
    from gdn_verify.kernels.triton.prefill import chunked_prefill

    chunked_prefill(
        on["qkvz"].view, on["ba"].view, layer, on["conv_pool"].view, on["pool"].view, problem.tables(),
        packing=problem.packing, state_order=problem.state_order, pad_slot_id=problem.pad_slot_id,
        output=on["output"].view, z_output=on["z_output"].view if problem.z else None, zero_pads=problem.zero_pads,
        exact=problem.exact,
    )  # fmt: skip


def check(problem: Prefill, half: float = HALF) -> None:
    """In the interpreter's process: one launch, accounted for."""
    layer = problem.layer()
    before, after = problem.buffers(layer), problem.buffers(layer)
    launch(problem, layer, after)
    conv_pool, pool = before["conv_pool"].copy(), before["pool"].view.float()
    output, z = fallback.gated_delta_net_packed(
        before["qkvz"].view, before["ba"].view, layer, conv_pool.view, pool, problem.tables(),
        packing=problem.packing, state_order=problem.state_order, pad_slot_id=problem.pad_slot_id,
    )  # fmt: skip
    for name in ("qkvz", "ba"):
        assert same_bits(after[name].storage, before[name].storage), f"{name} was written"
    assert same_bits(after["conv_pool"].storage, conv_pool.storage), "conv pool"
    narrow = problem.dtype != torch.float32 or problem.result not in (None, torch.float32)
    assert_outputs(problem, before["output"], after["output"], output.float(), half if narrow else EXACT)
    narrow |= problem.pool != torch.float32
    assert_states(problem, before["pool"], after["pool"], pool, half if narrow else EXACT)
    written = slice(0, problem.tokens - problem.tail if problem.z else 0)
    assert same_bits(after["z_output"].view[written], z[written]), "z"
    before["z_output"].view[written] = z[written]
    assert same_bits(after["z_output"].storage, before["z_output"].storage), "z_output was written beyond its tokens"


def assert_outputs(problem: Prefill, before: Buffer, after: Buffer, expected: Tensor, tolerance: float) -> None:
    if problem.zero_pads:
        before.view.zero_()
    for tokens, slot in problem.live():
        assert_near(after.view[tokens], expected[tokens], tolerance, f"output of the row in slot {slot}")
        before.view[tokens] = after.view[tokens]
    assert same_bits(after.storage, before.storage), "the output was written beyond live tokens"


def assert_states(problem: Prefill, before: Buffer, after: Buffer, expected: Tensor, tolerance: float) -> None:
    for _, slot in problem.live():
        assert_near(after.view[slot], expected[slot], tolerance, f"state of slot {slot}")
        before.view[slot] = after.view[slot]
    assert same_bits(after.storage, before.storage), "the pool was written beyond its live slots"


def assert_near(actual: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    error = (actual.float() - expected).norm() / expected.norm().clamp_min(1e-3)
    assert error < tolerance, f"{name}: relative error {error:.1e}"


PLAIN = Prefill(((5, 3, 9, True), (2, -1, 2, True), (17, 5, 10, False), (0, 1, 1, False), (1, 0, 11, True)))
OPTIONS = {
    "flat": PLAIN,
    "interleaved, three heads to a key": replace(PLAIN, packing="interleaved", H=2, ratio=3),
    "more than one block of channels and heads": replace(PLAIN, H=5, K=16, V=16, packing="interleaved"),
    "K above V, KV, sigmoid": replace(PLAIN, K=20, V=3, state_order="KV", norm="sigmoid"),
    "no norm, no z": replace(PLAIN, norm=None, z=False),
    "bfloat16": replace(PLAIN, dtype=torch.bfloat16, conv=torch.bfloat16, packing="interleaved"),
    "bfloat16 in float32, to float32": replace(PLAIN, dtype=torch.bfloat16, result=torch.float32, exact=True),
    "another result": replace(PLAIN, dtype=torch.bfloat16, result=torch.float16, tail=2),
    "another result, untouched pads": replace(PLAIN, result=torch.bfloat16, tail=2, zero_pads=False),
    "gaps, tail": replace(PLAIN, gap=6, tail=3, inside=False, spare=2),
    "untouched pads": replace(PLAIN, tail=3, zero_pads=False),
    "int64, padding by an id, elsewhere": replace(PLAIN, index=torch.int64, pad_slot_id=5, reads=True),
    "sixteen taps, bias": replace(PLAIN, W=16, bias=True, known=False),
    "wide heads": replace(PLAIN, K=200, V=256, packing="interleaved"),
    "heads of one": replace(PLAIN, K=1, V=1, ratio=4),
    "two taps, given scale, beta to 2": replace(PLAIN, W=2, scale=0.5, beta_scale=2.0, activation=None),
}


@pytest.mark.parametrize("problem", OPTIONS.values(), ids=OPTIONS)
def test_the_layer_core_over_rows_of_any_length(interpreted, problem):
    """Each option, over rows without tokens, of one, shorter and longer than a chunk, and padded ones."""
    interpreted(check, problem)


@st.composite
def problems(draw: Callable[..., Any]) -> Prefill:
    """Launches in which options meet; shrinks to few short rows, no padding and the first of every option."""
    free = list(draw(st.permutations(range(12))))
    pad = draw(st.sampled_from([None, 12]))
    rows = tuple(
        (draw(st.integers(0, 18)), draw(st.sampled_from([free.pop(), -1, 13, 12])), free.pop(), draw(st.booleans()))
        for _ in range(draw(st.integers(1, 4)))
    )
    one_of = {
        "H": (1, 2, 3), "ratio": (1, 2, 3, 4), "K": (4, 9), "V": (3, 10), "W": (2, 3, 4, 6),
        "packing": ("flat", "interleaved"), "state_order": ("VK", "KV"), "dtype": FLOATS, "pool": FLOATS,
        "conv": FLOATS, "result": (None, *FLOATS), "bias": (False, True), "activation": ("silu", None),
        "norm": ("silu", "sigmoid", None), "beta_scale": (1.0, 2.0), "inside": (True, False), "spare": (0, 2),
        "gap": (0, 5), "z": (True, False), "zero_pads": (True, False), "reads": (False, True), "known": (True, False),
        "index": (torch.int32, torch.int64), "tail": (0, 2),
    }  # fmt: skip
    chosen = {name: draw(st.sampled_from(values)) for name, values in one_of.items()}
    # Slot 12 is padding by an id, or there is no such slot.
    return Prefill(rows, slots=12 if pad is None else 13, pad_slot_id=pad, **chosen)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=problems())
def test_options_that_meet(interpreted, problem):
    """Any of them with any other."""
    interpreted(check, problem, ANY)


def spoilt(kernel: Any, change: Callable[[list[Any], dict[str, Any]], None]) -> Any:
    """A kernel that is launched with other operands than it was given."""

    class Spoilt:
        def __getitem__(self, grid: Any) -> Callable[..., None]:
            def run(*arguments: Any, **options: Any) -> None:
                changed = list(arguments)
                change(changed, options)
                kernel[grid](*changed, **options)

            return run

    return Spoilt()


A_LOG, DT_BIAS, WEIGHT = 10, 11, 2
DEFECTS: dict[str, tuple[str, Callable[[list[Any], dict[str, Any]], None]]] = {
    "the rate of another head": ("conv_prefill", lambda x, o: x.__setitem__(A_LOG, x[A_LOG].flip(0))),
    "the bias of another head": ("conv_prefill", lambda x, o: x.__setitem__(DT_BIAS, x[DT_BIAS].flip(0))),
    "another norm weight": ("gated_norm", lambda x, o: x.__setitem__(WEIGHT, x[WEIGHT].flip(0))),
    "another activation": ("gated_norm", lambda x, o: o.update(SILU=not o["SILU"])),
    "another packing": ("gated_norm", lambda x, o: o.update(INTERLEAVED=not o["INTERLEAVED"])),
    "padding that is normalised": ("gated_norm", lambda x, o: o.update(PAD=None)),
}


def defective(name: str) -> str | None:
    """In the interpreter's process: what is said of a launch with this defect."""
    from gdn_verify.kernels.triton import conv_prefill, gated_norm

    module, change = DEFECTS[name]
    place = {"conv_prefill": conv_prefill, "gated_norm": gated_norm}[module]
    attribute = f"gdn_{module}_kernel"
    kernel = getattr(place, attribute)
    setattr(place, attribute, spoilt(kernel, change))
    try:
        check(replace(PLAIN, H=2, pad_slot_id=5, tail=1))
    except AssertionError as error:
        return str(error)
    finally:
        setattr(place, attribute, kernel)
    return None


@pytest.mark.parametrize("name", DEFECTS)
def test_planted_defects_are_found(interpreted, name):
    """One wrong operand of one launch."""
    assert "output" in str(interpreted(defective, name))


def check_refusals() -> list[str]:
    """In the interpreter's process: what is said of operands that do not fit; no pool is touched."""
    from gdn_verify.kernels.triton.prefill import chunked_prefill

    layer, tables, said = PLAIN.layer(), PLAIN.tables(), []
    on = PLAIN.buffers(layer)
    before = [on[name].storage.clone() for name in ("conv_pool", "pool")]
    qkvz, ba, conv_pool, pool = (on[name].view for name in ("qkvz", "ba", "conv_pool", "pool"))
    counts = torch.ones(tables.rows, dtype=torch.int32)
    for arguments in (
        (qkvz, ba, layer, conv_pool, pool, replace(tables, num_accepted_tokens=counts)),
        (qkvz, ba, layer, conv_pool[1:], pool, tables),
        (qkvz, ba[1:], layer, conv_pool, pool, tables),
        (qkvz, ba, replace(PLAIN, W=17).layer(), torch.zeros(12, layer.channels, 16), pool, tables),
        (qkvz, ba, layer, conv_pool, pool, replace(tables, has_initial_state=counts)),
        (qkvz.clone().requires_grad_(), ba, layer, conv_pool, pool, tables),
    ):
        with pytest.raises((ValueError, RuntimeError)) as error:
            chunked_prefill(*arguments)
        said.append(str(error.value))
    after = [on[name].storage for name in ("conv_pool", "pool")]
    assert all(same_bits(x, y) for x, y in zip(before, after, strict=True))
    return said


def test_what_does_not_fit_is_refused(interpreted):
    """By name, with the way out."""
    counts, slots, tokens, width, fresh, gradient = interpreted(check_refusals)
    assert counts == "num_accepted_tokens is given; speculative rows go to fused_spec_decode"
    assert slots.startswith("conv_pool has shape [11,")
    assert tokens == "ba has 24 tokens and qkvz 25; they must be the same tokens"
    assert width == "conv_weight has width W=17; at most 16 are taken"
    assert fresh.startswith("has_initial_state has dtype torch.int32")
    assert "requires a gradient" in gradient


def check_norm_alone() -> None:
    """In the interpreter's process: out of place, from o of another type; and a layer that has none."""
    from gdn_verify.kernels.triton.gated_norm import gated_norm

    problem = replace(PLAIN, gap=3, packing="interleaved", pad_slot_id=3)
    layer, tables = problem.layer(), problem.tables()
    on, make = problem.buffers(layer), torch.Generator().manual_seed(5)
    o = torch.randn(on["output"].view.shape, generator=make).half()
    kept = o.clone()
    gated_norm(
        o, on["qkvz"].view, layer, tables, problem.slots, packing=problem.packing, pad_slot_id=problem.pad_slot_id,
        output=on["output"].view,
    )  # fmt: skip
    z = unpack(on["qkvz"].view, on["ba"].view, *layer.geometry, problem.packing)[1]
    assert same_bits(o, kept), "o was written"
    before = problem.buffers(layer)["output"]
    expected = fallback.gated_norm(o.float(), z, layer.norm_weight, layer.norm_eps)
    assert_outputs(replace(problem, zero_pads=False), before, on["output"], expected, EXACT)
    with pytest.raises(ValueError, match="norm_weight=None"):
        gated_norm(o, on["qkvz"].view, replace(layer, norm_weight=None), tables, problem.slots)


def test_the_gated_norm_alone(interpreted):
    """Its tokens and no others, o left as it was."""
    interpreted(check_norm_alone)
