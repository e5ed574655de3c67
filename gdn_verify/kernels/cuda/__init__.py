"""Kernels in CUDA C++ for NVIDIA, compiled where they first run (docs/cuda.md)."""
