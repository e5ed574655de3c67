"""This project's Triton kernels for NVIDIA and AMD. Only `checks` and `tickets` import without Triton."""
