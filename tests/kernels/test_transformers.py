"""The recurrence against transformers' own torch fallback, an implementation by other hands."""

from __future__ import annotations

import inspect

import pytest
import torch

from gdn_verify.kernels.delta import delta_rule
from gdn_verify.kernels.stages import qk_norm

qwen = pytest.importorskip(
    "transformers.models.qwen3_next.modeling_qwen3_next", reason="pip install 'gdn-verify[transformers]'"
)


@pytest.mark.parametrize(("H", "HV", "K", "V"), [(1, 1, 4, 4), (2, 6, 8, 5), (2, 4, 32, 16)])
@pytest.mark.parametrize("tokens", [1, 9, 70])
@pytest.mark.parametrize("name", ["torch_recurrent_gated_delta_rule", "torch_chunk_gated_delta_rule"])
def test_outputs_and_states_agree(name, H, HV, K, V, tokens):
    """Raw q and k there, normalised here; their state is [N, HV, K, V]."""
    make = torch.Generator().manual_seed(tokens)
    q, k = torch.randn(2, tokens, H, K, generator=make)
    v, pool = torch.randn(tokens, HV, V, generator=make), torch.randn(2, HV, K, V, generator=make)
    g, beta = -torch.rand(tokens, HV, generator=make), torch.rand(tokens, HV, generator=make)
    r = HV // H
    theirs = inspect.unwrap(getattr(qwen, name))  # the name itself runs FLA's kernel where FLA is installed
    expected, state = theirs(
        q.repeat_interleave(r, 1)[None],
        k.repeat_interleave(r, 1)[None],
        v[None],
        g[None],
        beta[None],
        initial_state=pool[1:].clone(),
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    tables = {"state_indices": torch.tensor([1]), "query_start_loc": torch.tensor([0, tokens])}
    o = delta_rule(*qk_norm(q, k), v, g, beta, pool, **tables, state_order="KV")
    torch.testing.assert_close(o, expected[0], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(pool[1], state[0], rtol=1e-4, atol=2e-5)
