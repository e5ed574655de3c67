"""What SGLang's kernels get wrong of inputs that its paths refuse, each in a process of its own: is it right by now?

python sglang_defects.py rows_of_no_tokens     # prints "right" or "wrong"
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from upstream import main, same

OPS = "sglang.kernels.ops"
K = 16
MOST_PROGRAMS = (2**31 - 1, 65535, 65535)


def _tokens(count: int) -> dict[str, torch.Tensor]:
    """q, k, v, g and β of one head."""
    given = {name: torch.randn(1, count, 1, K, dtype=torch.bfloat16) for name in "qkv"}
    return {**given, "g": -torch.rand(1, count, 1), "beta": torch.rand(1, count, 1)}


def _chunks(given: dict[str, torch.Tensor], pool: torch.Tensor, slots: list[int], starts: list[int]) -> torch.Tensor:
    out: torch.Tensor = import_module(f"{OPS}.attention.fla.chunk").chunk_gated_delta_rule(
        **given, initial_state=pool, initial_state_indices=torch.tensor(slots, dtype=torch.int32),
        cu_seqlens=torch.tensor(starts, dtype=torch.int32), use_qk_l2norm_in_kernel=True,
    )[0]  # fmt: skip
    return out


def rows_of_no_tokens() -> bool:
    """A chunked prefill whose first row has no tokens is that of the other row."""
    given, pool = _tokens(3), torch.randn(2, 1, K, K)
    alone = _chunks(given, pool.clone(), [1], [0, 3])
    return same(_chunks(given, pool.clone(), [0, 1], [0, 0, 3]), alone)


def pools_with_holes() -> bool:
    """A pool whose slots have something between them is updated."""
    dense = torch.randn(2, 1, K, K)
    holes = torch.cat([dense.flatten(1), torch.zeros(2, 8)], dim=1)[:, : K * K].unflatten(1, (1, K, K))
    given = _tokens(3)
    for pool in (dense, holes):
        _chunks(given, pool, [1], [0, 3])
    return same(holes, dense)


def ids_that_lie_apart() -> bool:
    """A column of a table of slots names the slots that it holds."""
    update = import_module(
        f"{OPS}.attention.linear.fused_sigmoid_gating_recurrent"
    ).fused_sigmoid_gating_delta_rule_update
    table = torch.tensor([[0, 2], [1, 3]], dtype=torch.int32)
    q, k, v = (torch.randn(1, 2, 1, K) for _ in "qkv")
    a, b, A_log, dt_bias = torch.randn(2, 1), torch.randn(2, 1), torch.randn(1), torch.randn(1)
    one, other = (torch.arange(4 * K * K).reshape(4, 1, K, K) / K**2 for _ in range(2))
    for pool, ids in ((one, table[:, 0]), (other, table[:, 0].contiguous())):
        update(
            A_log, a, dt_bias, 1.0, 20.0, q, k, v, b, pool, ids, use_qk_l2norm_in_kernel=True,
            cu_seqlens=torch.arange(3, dtype=torch.int32),
        )  # fmt: skip
    return same(one, other)


def convs_of_width_five() -> bool:
    """A conv of five taps sums five."""
    update = import_module(f"{OPS}.mamba.causal_conv1d_triton").causal_conv1d_update
    x, weight, pool = torch.randn(1, K), torch.randn(K, 5), torch.randn(2, K, 4)
    wanted = (torch.cat([pool[1], x.T], dim=1) * weight).sum(1)
    made = update(x, pool, weight, conv_state_indices=torch.tensor([1], dtype=torch.int32))
    return same(made[0], wanted)


def histories_of_the_other_kind() -> bool:
    """A bfloat16 history that moves by one column beside a float16 input is the same, bit for bit."""
    update = import_module(f"{OPS}.mamba.causal_conv1d_triton").causal_conv1d_update
    pool = torch.full((1, K, 3), 1.1e-6, dtype=torch.bfloat16)
    before, x = pool[:, :, 1:].clone(), torch.ones(1, K, dtype=torch.float16)
    update(x, pool, torch.ones(K, 4, dtype=torch.float16), conv_state_indices=torch.tensor([0], dtype=torch.int32))
    return torch.equal(pool[:, :, :2], before)


class _Counted:
    """A kernel that says of how many programs it would have been."""

    grid: tuple[int, ...] = ()

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.grid = grid
        return lambda **given: None


def programs_of_a_busy_decode() -> bool:
    """1024 rows of 64 value heads, as many as one card may have, are a grid that it starts."""
    module = import_module(f"{OPS}.attention.fla.fused_recurrent")
    rows, heads, counted = 1024, 64, _Counted()
    with patch.object(module, "fused_recurrent_gated_delta_rule_packed_decode_kernel", counted):
        module.fused_recurrent_gated_delta_rule_packed_decode(
            mixed_qkv=torch.zeros(rows, 3 * heads * 2), a=torch.zeros(rows, heads), b=torch.zeros(rows, heads),
            A_log=torch.zeros(heads), dt_bias=torch.zeros(heads), scale=1.0,
            initial_state=torch.zeros(1, heads, 2, 2), out=torch.zeros(rows, 1, heads, 2),
            ssm_state_indices=torch.zeros(rows, dtype=torch.int32), use_qk_l2norm_in_kernel=True,
        )  # fmt: skip
    assert counted.grid
    return all(programs <= most for programs, most in zip(counted.grid, MOST_PROGRAMS, strict=False))


if __name__ == "__main__":
    main(globals())
