"""Paths: one small file for each implementation, a registry, and the conformance that all of them meet.

Another package adds its own through the entry-point group `gdn_verify.paths`; each entry names a function without
arguments that returns an iterable of `Path`.
"""

from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.registry import BrokenPluginError, UnknownPathError, find, registered

__all__ = ["BrokenPluginError", "Launch", "Missing", "Outputs", "Path", "UnknownPathError", "find", "registered"]
