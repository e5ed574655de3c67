"""SGLang's verification of drafts: states and windows after each token in buffers of their own, the pools not updated.

A request has one slot, and buffers for what each token of its draft would leave; what is accepted is copied to the slot
afterwards (`update_mamba_state_after_mtp_verify`, `srt/layers/attention/hybrid_linear_attn_backend.py:1514`). The
contract's draft has a slot a token instead, and its conv state one window with all that may still be accepted. So row n
is given the state behind its last accepted token and the window that goes with it, and what it leaves in the buffers is
stored where the contract has it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Group, Padding
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import overlaid, sequential_float32
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.engines import accepted, conv_parameters, filled, halved_row, heads, serial
from gdn_verify.paths.installed import function
from gdn_verify.paths.sglang import conv
from gdn_verify.paths.sglang.base import too_many_rows
from gdn_verify.paths.sglang.layer import GATED, NORMS, Layer, norm
from gdn_verify.paths.sglang.recurrent import SIGMOID

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Draft:
    """A launch of rows with equally many tokens each, and where the contract keeps their states."""

    launch: Launch
    table: Tensor
    counts: Tensor
    steps: int

    @classmethod
    def of(cls, launch: Launch) -> Draft:
        """That of a launch of drafts, all of one length."""
        counts = accepted(launch)
        assert counts is not None
        return cls(launch, launch["state_indices"].long(), counts.long(), launch.batch.rows[0].tokens)

    @property
    def read(self) -> Tensor:
        """The slot behind the last accepted token, a row; negative where the row is padding."""
        return self.table.gather(1, self.counts[:, None] - 1)[:, 0]

    def histories(self) -> Tensor:
        """The windows before the draft, [rows, D, W-1]: columns accepted-1 and on of the row's first slot."""
        import torch

        columns = self.counts[:, None] - 1 + torch.arange(self.launch.geometry.W - 1, device=self.table.device)
        window = self.launch["conv_pool"][self.table[:, 0].clamp(min=0)]
        return window.gather(2, columns[:, None].expand(-1, window.shape[1], -1))

    def keep_windows(self, windows: Tensor) -> None:
        """Of windows [rows, steps, D, W-1] after each token: the first, and the last column of every other."""
        import torch

        live = self.read >= 0
        row = torch.cat([windows[:, 0], windows[:, 1:, :, -1].transpose(1, 2)], dim=2)
        self.launch["conv_pool"][self.table[live, 0], :, : row.shape[2]] = row[live]

    def keep_states(self, states: Tensor) -> None:
        """Of states [rows, steps, HV, V, K] after each token: in the slot of the token's column, if it has one."""
        ids = self.table[:, : self.steps]
        kept = (ids >= 0) & (self.read >= 0)[:, None]
        self.launch["ssm_pool"][ids[kept]] = states[kept]


class TargetVerify(Layer):
    """`causal_conv1d_update` and the recurrence with gates, both with buffers for every token, and the norm.

    Rows draft equally many tokens; a chain, and no tree.
    """

    name = "sglang-verify"
    least_reach = 0.0  # few of the probes have drafts of one length
    kernels = ("_causal_conv1d_update_kernel", "fused_sigmoid_gating_delta_rule_update_kernel", *NORMS)
    entries = (conv.UPDATE, SIGMOID, GATED)
    capabilities = replace(
        Layer.capabilities, groups=frozenset({Group.SPEC}), equal_lengths=True,
        paddings=frozenset({Padding.SENTINEL_ROW, Padding.TOKENS}),
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        if not launch.batch.tokens:
            return Outputs(o=launch["out"])
        draft = Draft.of(launch)
        convolved = convolve(draft)
        o = recur(draft, convolved)
        return filled(launch, norm(launch, o.clone()), conv=convolved, o=o)

    def refuses(self, case: Case, presentation: Presentation) -> str | None:
        return halved_row(case) or too_many_rows(case)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return overlaid(sequential_float32(case.dtypes, serial=serial(case, host)), conv.sites(case.dtypes))


def convolve(draft: Draft) -> Tensor:
    """The conv of all rows' tokens (gdn_backend.py:1045): a slot a row, a window for every token."""
    launch, rows, nan = draft.launch, len(draft.table), float("nan")
    weight, bias, activation = conv_parameters(launch)
    x = launch["mixed_qkv"][: launch.batch.tokens].unflatten(0, (rows, draft.steps)).transpose(1, 2)
    states, places = draft.histories(), _places(draft)
    windows = states.new_full((rows, draft.steps, *states.shape[1:]), nan)
    out: Tensor = function(conv.UPDATE)(
        x, states, weight, bias, activation, conv_state_indices=places.where(draft.read >= 0, -1),
        intermediate_conv_window=windows, intermediate_state_indices=places,
    )  # fmt: skip
    draft.keep_windows(windows)
    return out.transpose(1, 2).reshape(launch.batch.tokens, -1)


def recur(draft: Draft, convolved: Tensor) -> Tensor:
    """The recurrence of all rows' tokens (`srt/layers/attention/linear/kernels/gdn_triton.py:235`)."""
    launch, pool, tokens = draft.launch, draft.launch["ssm_pool"], draft.launch.batch.tokens
    q, k, v = heads(launch, convolved)
    states = pool.new_full((len(draft.table), draft.steps, *pool.shape[1:]), float("nan"))
    o = function(SIGMOID)(
        A_log=launch["A_log"], dt_bias=launch["dt_bias"], q=q, k=k, v=v, a=launch["a"][:tokens], b=launch["b"][:tokens],
        initial_state_source=pool, initial_state_indices=draft.read, cu_seqlens=launch["query_start_loc"],
        use_qk_l2norm_in_kernel=True, softplus_beta=1.0, softplus_threshold=20.0, is_kda=False,
        disable_state_update=True, intermediate_states_buffer=states, intermediate_state_indices=_places(draft),
        cache_steps=draft.steps, retrieve_parent_token=None,
    )  # fmt: skip
    draft.keep_states(states)
    out: Tensor = o[0]
    return out


def _places(draft: Draft) -> Tensor:
    import torch

    return torch.arange(len(draft.table), dtype=torch.int32, device=draft.table.device)
