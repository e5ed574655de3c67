"""This project's Triton kernels for NVIDIA and AMD. Importing this package imports Triton; nothing is compiled yet."""
