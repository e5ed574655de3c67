"""The kernels as operators of PyTorch, `torch.ops.gdn_verify.*`, for `torch.compile`, export and tracing.

An operator takes tensors, numbers and strings: the fields of `Tables` and of a `Layer` stand one by one at the end of
its arguments, in their order. It returns nothing: pools and outputs are the caller's, and its schema says that they are
written. The functions here are the same with `Tables` and `Layer` in one piece, for use within a compiled function too.

This package imports without Triton; a call imports it, or raises RuntimeError that says what to install. The kernels in
CUDA C++ are `ops.cuda`, operators cuda_fused_decode, cuda_fused_spec_decode and cuda_chunk_delta.
"""

from gdn_verify.kernels.ops import cuda
from gdn_verify.kernels.ops.decode import conv_update, delta_update, fused_decode, fused_spec_decode
from gdn_verify.kernels.ops.prefill import chunk_delta, chunked_prefill, conv_prefill

__all__ = [
    "chunk_delta",
    "chunked_prefill",
    "conv_prefill",
    "conv_update",
    "cuda",
    "delta_update",
    "fused_decode",
    "fused_spec_decode",
]
