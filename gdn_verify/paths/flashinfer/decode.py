"""One token a row: on a pool of float32 or bfloat16 states, which are other kernels, and on states given densely.

`gated_delta_rule_decode_pretranspose` picks the kernel by the state's type (gdn_decode.py:879), and of bfloat16 by rows
times value heads: 512 and more go to another (gdn_kernels/gdn_decode_bf16_state.py:2790). It tries a backend for SM100
before, which elsewhere refuses (gdn_decode.py:858, jit/cake_gdn.py:810); here `backend="flashinfer"` says so at once.

float32: a negative id to read from skips the row, whose output is zeros (gdn_kernels/gdn_decode_pretranspose.py:161,
:367). bfloat16: it reads and writes slot 0, which no request may own, and the output is undefined (gdn_decode.py:729,
gdn_kernels/gdn_decode_bf16_state.py:277, :2041). A negative id to write to is slot 0 in both (…pretranspose.py:155).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import (
    Capabilities,
    Conventions,
    DType,
    Group,
    IdRule,
    Padding,
    PadPolicy,
    Span,
    Stage,
    StateOrder,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.flashinfer import sites
from gdn_verify.paths.flashinfer.base import BF16, F32, HEAD, VK, Flashinfer, compact, dense
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from torch import Tensor

PRETRANSPOSE = "flashinfer.gdn_decode:gated_delta_rule_decode_pretranspose"
NONTRANSPOSE = "flashinfer.gdn_decode:gated_delta_rule_decode"
ROWS = frozenset({Padding.SENTINEL_ROW, Padding.EMPTY_ROW})
"""A launch has a token a row: rows without one stand at its end, and are cut off."""
SERIAL_FLOAT32, SERIAL_BF16, SERIAL_KV = 4, 8, 16
"""Terms that a thread sums up over K, at most (…pretranspose.py:316, …bf16_state.py:2260, …nontranspose.py:241)."""


class Decode(Flashinfer):
    """`gated_delta_rule_decode_pretranspose` on a pool of float32 states, in place or from one slot to another."""

    name = "flashinfer-decode"
    entries: tuple[str, ...] = (PRETRANSPOSE,)
    conventions = Conventions(pads=((Stage.DELTA, IdRule.NEGATIVE),), pad_outputs=(("out", PadPolicy.ZEROS),))
    capabilities = Capabilities(
        span=Span(Stage.GATES, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),  # a token that moves from slot to slot counts as a prompt
        key_dim=HEAD,
        value_dim=HEAD,
        min_tokens=1,
        max_tokens=1,
        activations=BF16,  # float16 is rounded to bfloat16 before all else (…pretranspose.py:1033)
        states=F32,
        params=F32,
        state_orders=VK,
        paddings=ROWS,
        misaligned=False,
        separate_slots=True,
        fresh_rows=False,
    )

    def run(self, launch: Launch) -> Outputs:
        tokens = launch.batch.tokens
        if not tokens:  # no engine launches that
            return Outputs(o=launch["out"])
        written, reads = launch["state_indices"], launch.get("read_indices")
        out, _ = function(PRETRANSPOSE)(
            **operands(launch),
            state=None,
            initial_state=launch["ssm_pool"],
            initial_state_indices=compact((written if reads is None else reads)[:tokens]),
            output_state_indices=None if reads is None else compact(written[:tokens]),
            backend="flashinfer",
        )
        return filled(launch, out)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sites.recurrent(case.dtypes, serial=SERIAL_FLOAT32)


class DecodeBf16(Decode):
    """The same function on a pool of bfloat16 states, whose slot 0 is padding's.

    With ids of 64 bits it does not compile, as a 32-bit 0 takes the place of a negative one (…bf16_state.py:277).
    """

    name = "flashinfer-decode-bf16"
    conventions = Conventions(pads=((Stage.DELTA, IdRule.NEGATIVE),), scratch_slot=0)
    capabilities = replace(Decode.capabilities, states=BF16, int64_indices=False)

    def one_pool(self, presentation: Presentation) -> bool:
        """One with holes is compiled for its slots (gdn_kernels/gdn_decode_bf16_state.py:3468, :3848)."""
        return presentation.slot_pad > 0

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sites.recurrent(case.dtypes, serial=SERIAL_BF16)


class DecodeDense(Flashinfer):
    """The same function on states of the rows in order (`state=`), of either type; SGLang's decode on SM90."""

    name = "flashinfer-decode-dense"
    entries: tuple[str, ...] = (PRETRANSPOSE,)
    variant = True
    capabilities = replace(
        Decode.capabilities, pool=False, states=frozenset({*F32, *BF16}), paddings=frozenset(), separate_slots=False,
        fresh_rows=True,
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        state = launch["initial_state"].clone()  # updated in place
        if not launch.batch.tokens:
            return Outputs(o=launch["out"], final_state=state)
        out, after = function(self.entries[0])(**operands(launch), state=state, backend="flashinfer")
        return Outputs(o=filled(launch, out).o, final_state=after)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sites.recurrent(case.dtypes, serial=SERIAL_FLOAT32 if case.dtypes.state is DType.F32 else SERIAL_BF16)


class DecodeKv(DecodeDense):
    """`gated_delta_rule_decode`: float32 states [rows, HV, K, V]; from 32 rows on another kernel."""

    name = "flashinfer-decode-kv"
    entries = (NONTRANSPOSE,)
    variant = False
    capabilities = replace(DecodeDense.capabilities, states=F32, state_orders=frozenset({StateOrder.KV}))

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sites.recurrent(case.dtypes, serial=SERIAL_KV)


def operands(launch: Launch, tokens: int = 1) -> dict[str, object]:
    """What every decode takes beside states: rows of `tokens` tokens each, gates as a and b, the output to fill."""
    rows = {name: dense(launch, name).unflatten(0, (-1, tokens)) for name in ("q", "k", "v", "a", "b")}
    out = launch["out"][: launch.batch.tokens].unflatten(0, (-1, tokens))
    return {
        **rows, "A_log": launch["A_log"], "dt_bias": launch["dt_bias"], "scale": launch.options.scale, "output": out,
        "use_qk_l2norm": True,
    }  # fmt: skip


def filled(launch: Launch, out: Tensor) -> Outputs:
    """The launch's output, which the function fills and gives back; copied, should it give back another."""
    wanted = launch["out"][: launch.batch.tokens]
    if out.data_ptr() != wanted.data_ptr():
        wanted.copy_(out.flatten(0, 1))
    return Outputs(o=launch["out"])
