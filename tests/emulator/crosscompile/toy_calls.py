"""What runs first in a process where Triton compiles."""

from __future__ import annotations

import importlib
import os
from typing import Any


def prepare() -> None:
    """Whatever the tests run under, no interpreter here."""
    os.environ.pop("TRITON_INTERPRET", None)


def call(function: str, *args: Any, **named: Any) -> Any:
    """Call a function of `toys`, importing it here and not where the test runs."""
    return getattr(importlib.import_module("toys"), function)(*args, **named)
