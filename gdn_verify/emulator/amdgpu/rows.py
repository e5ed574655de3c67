"""What the machine executes: a table of integers, one row an instruction. Here stand the columns' numbers.

A register's number is its source code in AMD's encoding: 0…127 scalar, 256…511 vector, 512…767 accumulation.
"""

from __future__ import annotations

from enum import IntEnum

VCC, M0, EXEC, VGPR, AGPR = 106, 124, 126, 256, 512


class Kind(IntEnum):
    """What part of the machine executes a row."""

    VECTOR = 0
    SCALAR = 1
    SAVE_EXEC = 2
    BRANCH = 3
    NOTHING = 4
    END = 5
    BARRIER = 6
    WAIT = 7
    SCALAR_LOAD = 8
    MEMORY = 9
    SHARED = 10
    LANES = 11
    MATRIX = 12
    CACHE = 13
    PRIVATE = 14


class Condition(IntEnum):
    """When a branch is taken."""

    ALWAYS = 0
    SCC0 = 1
    SCC1 = 2
    VCCZ = 3
    VCCNZ = 4
    EXECZ = 5
    EXECNZ = 6


class Lanes(IntEnum):
    """Instructions that move numbers between lanes."""

    READ_FIRST = 0
    READ = 1
    WRITE = 2
    COUNT_LOW = 3
    COUNT_HIGH = 4
    SWAP_16 = 5
    SWAP_32 = 6
    SWIZZLE = 7
    PUSH = 8
    PULL = 9


class Spread(IntEnum):
    """On which halves of the operands the halves of a result depend, where that is less than all on all."""

    EVERYWHERE = 0
    UPWARD = 1
    """The lower half on lower halves: sums, products."""
    APART = 2
    """Each on its own: bits, moves."""
    LEFT = 3
    RIGHT = 4
    """Shifts, whose amount is often a constant."""
    MASK = 5
    """And, where a constant's zeros make known what they meet."""
    PERMUTE = 6
    """Bytes chosen by a constant."""
    PACK = 7
    """The lower half is the first operand, the upper one the second."""


class Bits(IntEnum):
    """On which bits of its operands a bit of a scalar result depends."""

    ALL = 0
    AND = 1
    SAME = 2
    SAME_AND_LOWER = 3
    LEFT = 4
    RIGHT = 5


KIND, OP, OFFSET = 0, 1, 2
DST, DST_WIDTH, DST_SHIFT, DST_BITS, DST_KEEPS = 3, 4, 5, 6, 7
"""Of a result narrower than a register: where in it, how wide (0: all of it), and whether the rest is kept."""

OPERANDS = 3
A, B, C = 8, 18, 28
"""Where the columns of an operand begin."""
CODE, HIGH, WIDTH, SHIFT, BITS, SIGNED, HALF, AND, XOR, VALUE = range(10)
"""An operand: register (-1: a constant), from it to the upper half of 64 bits, registers (0: no operand), a field of it
(0 bits: all), its extension, whether a float16 is made a float32, masks for |x| and -x, and the constant."""

MASK_IN, MASK_OUT, DPP, ROW_MASK, BANK_MASK, BOUND, CLAMP, TABLE = range(38, 46)
TARGET = 46
"""The row that a branch goes to."""
VMCNT, LGKMCNT = 47, 48
WAY, SIZE, EXTENDS, PLACES, OFFSET0, OFFSET1 = range(49, 55)
ADDRESS, ADDRESS_WIDTH, DATA, DATA1, BASE, SCALAR_OFFSET = range(55, 61)
"""An access: SIZE bytes at PLACES addresses. BASE is a scalar pair (global), a descriptor of four (buffer), or -1."""
BUFFER, RETURNS = 61, 62
ROWS, COLUMNS, DEPTH, ELEMENT, PER_LANE = range(63, 68)
"""A matrix instruction's shape."""
BITWISE = 68
"""A scalar instruction's `Bits`."""
SELECTS = 69
"""A vector instruction that takes one of two operands by a bit."""
SPREAD = 70
COUNT = 71
