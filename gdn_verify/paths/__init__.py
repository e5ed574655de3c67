"""Paths: one small file for each implementation, a registry, and the conformance that all of them meet.

Another package adds its own through the entry-point group `gdn_verify.paths`; each entry names a function without
arguments that returns an iterable of `Path`, or of `Builder` where it makes tables.
"""

from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.builder import Builder, Built, Maker, Roster, Setup, Split
from gdn_verify.paths.registry import (
    BrokenPluginError,
    Subject,
    UnknownPathError,
    find,
    find_subject,
    registered,
    subjects,
)

__all__ = [
    "BrokenPluginError",
    "Builder",
    "Built",
    "Launch",
    "Maker",
    "Missing",
    "Outputs",
    "Path",
    "Roster",
    "Setup",
    "Split",
    "Subject",
    "UnknownPathError",
    "find",
    "find_subject",
    "registered",
    "subjects",
]
