"""Rows of drafts, as many tokens in each, with the state after every token kept: in a buffer, or in slots at once.

Row n reads the slot in column accepted-1 of its table. With a buffer the pool is left as it is and the caller stores
what is accepted, as SGLang does after its verification (its `gdn_flashinfer.py`, `target_verify`); here every token's
state is put into the slot that the table has for it. `ssm_state_indices` lets the kernel do that itself; it asks for
two tokens or more (gdn_decode.py:1614), for ids of 32 bits (:1619), and looks at no id before it writes
(gdn_kernels/gdn_decode_mtp.py:925), so that none may be padding.

float32: a negative id to read from skips the row and leaves its output (gdn_kernels/gdn_decode_mtp.py:466, :1979).
bfloat16: it is slot 0, as of decodes.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, Conventions, Group, IdRule, Padding, PadPolicy, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import accepted
from gdn_verify.paths.flashinfer import sites
from gdn_verify.paths.flashinfer.base import BF16, F32, HEAD, VK, Flashinfer, compact
from gdn_verify.paths.flashinfer.decode import PRETRANSPOSE, SERIAL_BF16, SERIAL_FLOAT32, filled, operands
from gdn_verify.paths.installed import function

if TYPE_CHECKING:
    from torch import Tensor

MTP = "flashinfer.gdn_decode:gated_delta_rule_mtp"


class Mtp(Flashinfer):
    """`gated_delta_rule_mtp` with `intermediate_states_buffer`, on a pool of float32 states that it leaves as it is."""

    name = "flashinfer-mtp"
    entries: tuple[str, ...] = (MTP,)
    conventions = Conventions(pads=((Stage.DELTA, IdRule.NEGATIVE),), pad_outputs=(("out", PadPolicy.UNTOUCHED),))
    capabilities = Capabilities(
        span=Span(Stage.GATES, Stage.DELTA),
        groups=frozenset({Group.SPEC}),
        mixes=False,
        key_dim=HEAD,
        value_dim=HEAD,
        min_tokens=2,
        equal_lengths=True,
        activations=BF16,
        states=F32,
        params=F32,
        state_orders=VK,
        paddings=frozenset({Padding.SENTINEL_ROW}),
        misaligned=False,
        fresh_rows=False,
    )

    def run(self, launch: Launch) -> Outputs:
        rows = launch.batch.rows
        if not launch.batch.tokens:  # no engine launches that
            return Outputs(o=launch["out"])
        pool = launch["ssm_pool"]
        # NaN, as what is not written may by chance be a state that does
        kept = pool.new_full((len(rows), rows[0].tokens, *pool.shape[1:]), float("nan"))
        out = self.verify(launch, kept)
        put(launch, kept)
        return filled(launch, out)

    def verify(self, launch: Launch, kept: Tensor) -> Tensor:
        """One call, which keeps the states; o [N, T, HV, V]."""
        out: Tensor
        out, _ = function(MTP)(
            **operands(launch, launch.batch.rows[0].tokens), initial_state=launch["ssm_pool"],
            initial_state_indices=reads(launch), intermediate_states_buffer=kept, disable_state_update=True,
        )  # fmt: skip
        return out

    def one_pool(self, presentation: Presentation) -> bool:
        """One with holes is compiled as it is (gdn_kernels/gdn_decode_mtp.py:3168, …bf16_state.py:3892).

        That of float32 states is kept by its strides alone (…_mtp.py:3020), on disk too (jit/cute_dsl_core.py:114), so
        that a pool of another size is refused; of bfloat16 ones another is compiled.
        """
        return presentation.slot_pad > 0

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sites.recurrent(case.dtypes, serial=SERIAL_FLOAT32)


class MtpScatter(Mtp):
    """`gated_delta_rule_mtp` with `ssm_state_indices`: the kernel stores each token's state in its slot.

    On a pool with holes, which keeps its four axes, it takes three coordinates (gdn_kernels/gdn_decode_mtp.py:2587,
    gdn_decode.py:1552) and does not compile: it gets dense ones.
    """

    name = "flashinfer-mtp-scatter"
    capabilities = replace(Mtp.capabilities, strided=False)

    def run(self, launch: Launch) -> Outputs:
        if not launch.batch.tokens:
            return Outputs(o=launch["out"])
        tokens = launch.batch.rows[0].tokens
        out, _ = function(MTP)(
            **operands(launch, tokens), initial_state=launch["ssm_pool"], initial_state_indices=reads(launch),
            ssm_state_indices=compact(launch["state_indices"][:, :tokens].int()), disable_state_update=False,
        )  # fmt: skip
        return filled(launch, out)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return super().refuses(case, presentation) or dropped(case)


class MtpBf16(Mtp):
    """`gated_delta_rule_decode_pretranspose` of several tokens, on a pool of bfloat16 states that it leaves alone."""

    name = "flashinfer-mtp-bf16"
    entries = (PRETRANSPOSE,)
    conventions = Conventions(pads=((Stage.DELTA, IdRule.NEGATIVE),), scratch_slot=0)
    capabilities = replace(Mtp.capabilities, states=BF16, int64_indices=False)

    def verify(self, launch: Launch, kept: Tensor) -> Tensor:
        out: Tensor
        out, _ = function(PRETRANSPOSE)(
            **operands(launch, launch.batch.rows[0].tokens), state=None, initial_state=launch["ssm_pool"],
            initial_state_indices=reads(launch), intermediate_states_buffer=kept, disable_state_update=True,
            backend="flashinfer",
        )  # fmt: skip
        return out

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sites.recurrent(case.dtypes, serial=SERIAL_BF16)


def reads(launch: Launch) -> Tensor:
    """The slot that each row reads, [N]: what its table has for the last token that was accepted."""
    counts = accepted(launch)
    assert counts is not None
    return compact(launch["state_indices"].gather(1, counts[:, None].long() - 1)[:, 0])


def put(launch: Launch, kept: Tensor) -> None:
    """Store the states after each token [N, T, HV, V, K] in the slots that the rows' tables have for them."""
    import torch

    found = [
        (n, t)
        for n, row in launch.batch.live_rows()
        for t, slot in enumerate(row.slots[: row.tokens])
        if slot is not None
    ]
    places = torch.tensor(found, dtype=torch.int64, device=kept.device).reshape(-1, 2)
    rows, tokens = places.unbind(1)
    launch["ssm_pool"][launch["state_indices"][rows, tokens].long()] = kept[rows, tokens]


def dropped(case: Case) -> str | None:
    """A draft whose state after some token has no slot: the kernel would write before the pool."""
    live = chain.from_iterable(batch.live_rows() for batch in case.batches)
    if any(None in row.slots[: row.tokens] for _, row in live):
        return "a token's state has no slot: ids to write to are not looked at"
    return None
