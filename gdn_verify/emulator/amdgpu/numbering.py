"""The numbers by which the machine knows the instructions that compute."""

from __future__ import annotations

from gdn_verify.emulator.amdgpu.instructions import OPERATIONS
from gdn_verify.emulator.amdgpu.table import VECTOR, Family, chosen

SCALAR_FAMILIES = (Family.SOP1, Family.SOP2, Family.SOPC, Family.SOPK)

VECTOR_OPERATIONS = chosen(VECTOR)
SCALAR_OPERATIONS = chosen(SCALAR_FAMILIES)

VECTOR_NUMBER = {operation.name: number for number, operation in enumerate(VECTOR_OPERATIONS)}
SCALAR_NUMBER = {operation.name: number for number, operation in enumerate(SCALAR_OPERATIONS)}

__all__ = ["OPERATIONS", "SCALAR_NUMBER", "SCALAR_OPERATIONS", "VECTOR_NUMBER", "VECTOR_OPERATIONS"]
