"""The processor itself: PyTorch code, and C++ operators of paths that have them."""

from gdn_verify.hosts.base import Host

CPU = Host(name="cpu", device="cpu")
