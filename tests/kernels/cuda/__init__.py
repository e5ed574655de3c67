"""Tests of the kernels in CUDA C++, emulated; `test_on_gpu` is for a card."""
