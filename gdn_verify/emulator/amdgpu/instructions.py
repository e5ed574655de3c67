"""All instructions, entered by the modules that say what they do."""

from __future__ import annotations

from gdn_verify.emulator.amdgpu import access, control, matrix, scalar, vector_float, vector_integer
from gdn_verify.emulator.amdgpu.table import BY_CODE, OPERATIONS

__all__ = ["BY_CODE", "OPERATIONS", "access", "control", "matrix", "scalar", "vector_float", "vector_integer"]
