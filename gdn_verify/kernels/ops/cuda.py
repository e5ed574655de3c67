"""`fused_decode` and `fused_spec_decode` by the kernels in CUDA C++, through their operators; see the package."""

from __future__ import annotations

from functools import partial

from gdn_verify.kernels.ops import decode

fused_decode = partial(decode.fused_decode, kernels="cuda")
"""`cuda.decode.fused_decode` through its operator: the same operands, result and errors."""
fused_spec_decode = partial(decode.fused_spec_decode, kernels="cuda")
"""`cuda.spec.fused_spec_decode` through its operator: the same operands, result and errors."""
