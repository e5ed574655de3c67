"""`fused_decode`, `fused_spec_decode` and `chunk_delta` by the kernels in CUDA C++, through their operators."""

from __future__ import annotations

from functools import partial

from gdn_verify.kernels.ops import decode, prefill

fused_decode = partial(decode.fused_decode, kernels="cuda")
"""`cuda.decode.fused_decode` through its operator: the same operands, result and errors."""
fused_spec_decode = partial(decode.fused_spec_decode, kernels="cuda")
"""`cuda.spec.fused_spec_decode` through its operator: the same operands, result and errors."""
chunk_delta = partial(prefill.chunk_delta, kernels="cuda")
"""`cuda.prefill.chunk_delta` through its operator: the same operands, result and errors; no checkpoints."""
