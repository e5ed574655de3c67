"""Tests of the project's own kernels."""
