"""Kernels compiled for chips that this machine does not have: a launch captured, compiled, judged by what it needs."""
