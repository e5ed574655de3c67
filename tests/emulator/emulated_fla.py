"""fla-core's kernels and transformers' reference; imported in a process with the interpreter installed."""

import inspect

import torch
from fla.ops.gated_delta_rule import chunk_gated_delta_rule, fused_recurrent_gated_delta_rule
from torch.nn.functional import normalize
from transformers.models.qwen3_next import modeling_qwen3_next

from gdn_verify.emulator.interpreter import launches

# Where fla is installed, transformers' function of this name calls fla's kernel: a kernel would be
# compared with itself. The PyTorch code is what the dispatcher wraps.
torch_recurrent = inspect.unwrap(modeling_qwen3_next.torch_recurrent_gated_delta_rule)

KERNELS = {"recurrent": fused_recurrent_gated_delta_rule, "chunk": chunk_gated_delta_rule}
Tensors = dict[str, torch.Tensor]


def inputs(lengths: list[int], heads: int, size: int, dtype: torch.dtype) -> Tensors:
    """Packed sequences with twice as many value heads as key heads; gates and states are float32."""
    generator = torch.Generator().manual_seed(sum(lengths) + size)
    tokens, wide = sum(lengths), 2 * heads
    q, k = (normalize(torch.randn(1, tokens, heads, size, generator=generator), dim=-1).to(dtype) for _ in "qk")
    return {
        "q": q,
        "k": k,
        "v": torch.randn(1, tokens, wide, size, generator=generator).to(dtype),
        "g": -torch.rand(1, tokens, wide, generator=generator),
        "beta": torch.rand(1, tokens, wide, generator=generator).to(dtype),
        "initial_state": torch.randn(len(lengths), wide, size, size, generator=generator),
    }


def reference(lengths: list[int], x: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequence by sequence, in float32."""
    outputs, states, start = [], [], 0
    for n, length in enumerate(lengths):
        part = [x[name][:, start : start + length].float() for name in ("q", "k", "v", "g", "beta")]
        output, state = torch_recurrent(*part, initial_state=x["initial_state"][n : n + 1], output_final_state=True)
        outputs.append(output)
        states.append(state)
        start += length
    return torch.cat(outputs, dim=1), torch.cat(states)


def relative_errors(kernel: str, lengths: list[int], size: int, dtype: torch.dtype) -> tuple[float, float, list[str]]:
    """Frobenius errors of output and final state against the reference, and the kernels that ran."""
    x = inputs(lengths, heads=1, size=size, dtype=dtype)
    bounds = torch.tensor([0, *lengths]).cumsum(0) if len(lengths) > 1 else None
    with launches() as ran, torch.no_grad():
        output, state = KERNELS[kernel](**x, output_final_state=True, cu_seqlens=bounds)
    expected_output, expected_state = reference(lengths, x)
    return (
        ((output.float() - expected_output).norm() / expected_output.norm()).item(),
        ((state - expected_state).norm() / expected_state.norm()).item(),
        [launch.kernel for launch in ran],
    )
