"""Matrix instructions: D = A · B + C by a whole wave, and where each lane holds what.

Source: AMD's CDNA3 and CDNA4 documents, chapter "Matrix arithmetic", for one block of M x N x K. A lane has `per_lane`
numbers of A that follow each other along K; a group of M lanes holds a stretch of K. B is like A with N for M. Of D and
C a lane holds one column, in runs of four rows:

    A[i, k]   lane i + M · (k // per_lane), number k % per_lane
    D[i, j]   lane j + N · ((i // 4) % (64 // N)), register 4 · (i // (4 · 64 // N)) + i % 4

Products are exact in float32 (of 16-bit numbers) or rounded with their sum (of float32); sums run over K in order, in
float32. Hardware's order inside one instruction is not documented, and not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from gdn_verify.emulator.amdgpu.table import Family, Operation, add


class Element(IntEnum):
    """What A and B hold."""

    F32 = 0
    F16 = 1
    BF16 = 2


@dataclass(frozen=True)
class Matrix:
    """The shape of one block, and the type of A and B; C and D are float32."""

    M: int
    N: int
    K: int
    element: Element

    @property
    def per_lane(self) -> int:
        """Numbers of A, or B, that a lane holds."""
        return self.M * self.K // 64

    @property
    def source_registers(self) -> int:
        """Registers of A, or B."""
        return self.per_lane if self.element is Element.F32 else self.per_lane // 2

    @property
    def result_registers(self) -> int:
        """Registers of C, or D."""
        return self.M * self.N // 64


_KNOWN = (
    (68, "32x32x2_f32", Matrix(32, 32, 2, Element.F32), None),
    (69, "16x16x4_f32", Matrix(16, 16, 4, Element.F32), None),
    (76, "32x32x8_f16", Matrix(32, 32, 8, Element.F16), None),
    (77, "16x16x16_f16", Matrix(16, 16, 16, Element.F16), None),
    (96, "32x32x8_bf16", Matrix(32, 32, 8, Element.BF16), None),
    (97, "16x16x16_bf16", Matrix(16, 16, 16, Element.BF16), None),
    (84, "16x16x32_f16", Matrix(16, 16, 32, Element.F16), "gfx950"),
    (85, "32x32x16_f16", Matrix(32, 32, 16, Element.F16), "gfx950"),
    (53, "16x16x32_bf16", Matrix(16, 16, 32, Element.BF16), "gfx950"),
    (55, "32x32x16_bf16", Matrix(32, 32, 16, Element.BF16), "gfx950"),
)
for _code, _name, _shape, _only in _KNOWN:
    _traits = {"matrix": _shape} | ({"only": _only} if _only else {})
    add(Operation(f"v_mfma_f32_{_name}", Family.VOP3P, _code, traits=_traits))
