"""Differential testing and correctness verification for Gated DeltaNet kernels."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gdn-verify")
except PackageNotFoundError:  # run from a source tree that is not installed, as on a bare GPU runner
    __version__ = "0+source"
