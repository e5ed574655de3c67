"""How large generated cases are: bounds of rows, tokens, heads, dimensions, slots and work, by what runs them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Size:
    """Upper bounds of generated cases; a path whose smallest geometry exceeds one gets that geometry.

    `max_work` bounds tokens · HV·K·V of a launch, the oracle's cost; `max_state` bounds slots · HV·K·V. Now and then
    a case goes beyond: `rare_work` bounds the work of one in sixteen, `rare_row_tokens` the rows of one prefill in
    thirty-two, and one in nine or so has `rare_value_heads` value heads; 0 stands for never. The row that settles a
    launch's kind has `opening` tokens or more, where it can.
    """

    max_rows: int
    max_row_tokens: int
    max_tokens: int
    max_value_heads: int
    max_dim: int
    max_slots: int
    max_work: int = 2**28
    max_state: int = 2**24
    rare_work: int = 0
    rare_row_tokens: int = 0
    rare_value_heads: int = 0
    opening: int = 1


# Triton's interpreter pays per program, N·HV·⌈V/32⌉ of them in a decode; chunk kernels pay per token block too.
TINY = Size(max_rows=2, max_row_tokens=5, max_tokens=8, max_value_heads=3, max_dim=32, max_slots=16)
# Laws launch a case some fifty times. Rows of more than one chunk, heads of every kind of map, and little else.
BRIEF = Size(max_rows=3, max_row_tokens=40, max_tokens=48, max_value_heads=4, max_dim=32, max_slots=16, max_work=2**15)
# Programs take up to eight value heads: twelve are more than one's.
SMALL = Size(
    max_rows=3,
    max_row_tokens=17,
    max_tokens=24,
    max_value_heads=6,
    max_dim=64,
    max_slots=32,
    max_work=2**16,
    rare_work=2**19,
    rare_value_heads=12,
)
PREFILL_SMALL = replace(
    SMALL, max_rows=4, max_row_tokens=130, max_tokens=260, max_work=2**20, rare_work=2**22, rare_row_tokens=513
)
# Launched some thirty times each, where a program costs much: rows of several chunks, and few heads.
AGAIN = replace(PREFILL_SMALL, max_tokens=200, max_value_heads=2, max_dim=32, rare_row_tokens=0, rare_value_heads=0)
# Under a tool that watches each access of a kernel: the dims that are served, and prompts of more than a chunk.
WATCHED = Size(
    max_rows=4,
    max_row_tokens=130,
    max_tokens=200,
    max_value_heads=4,
    max_dim=128,
    max_slots=16,
    max_work=2**26,
    opening=65,
)
# Compiled code, on a CPU or a GPU. The oracle runs 33 times a launch, and bounds the work.
WIDE = Size(
    max_rows=40,
    max_row_tokens=300,
    max_tokens=640,
    max_value_heads=16,
    max_dim=256,
    max_slots=96,
    max_work=2**21,
    rare_work=2**24,
    rare_row_tokens=513,
)
# Rows of many chunks, where what a chunk hands to the next adds up.
LONG = Size(
    max_rows=3, max_row_tokens=2049, max_tokens=4100, max_value_heads=3, max_dim=32, max_slots=16, max_work=2**24
)
