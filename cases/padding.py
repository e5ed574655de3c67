"""What fills a launch up to its captured size: which ids mark it, and what a path leaves in its outputs."""

from __future__ import annotations

from enum import Enum, StrEnum


class IdRule(StrEnum):
    """A set of state indices that mark a padded row in a pool of P slots."""

    MINUS_ONE = "= -1"
    ZERO = "= 0"
    NEGATIVE = "< 0"
    NOT_POSITIVE = "<= 0"
    OUTSIDE = "outside [0, P)"

    def marks(self, index: int, slots: int) -> bool:
        """Whether `index` marks a padded row in a pool of `slots` slots."""
        return {
            IdRule.MINUS_ONE: index == -1,
            IdRule.ZERO: index == 0,
            IdRule.NEGATIVE: index < 0,
            IdRule.NOT_POSITIVE: index <= 0,
            IdRule.OUTSIDE: not 0 <= index < slots,
        }[self]

    @property
    def reserves_zero(self) -> bool:
        """Whether slot 0 can hold no live row."""
        return self in (IdRule.ZERO, IdRule.NOT_POSITIVE)


class PadPolicy(StrEnum):
    """What a path leaves in the output of a padded row or token; copies are for z, which has one for every token."""

    ZEROS = "zeros"
    UNTOUCHED = "untouched"
    COPIES = "copies"
    UNSPECIFIED = "unspecified"


class IllegalIds(StrEnum):
    """What a path does with an id that is neither a slot nor a pad."""

    LOUD = "loud"
    NO_OP = "no-op"
    UNDEFINED = "undefined"


class Padding(Enum):
    """The ways a batch is filled up to a captured size."""

    SENTINEL_ROW = "a padded row that carries a token"
    EMPTY_ROW = "a trailing row of no tokens"
    SENTINEL_EMPTY_ROW = "a trailing row of no tokens, with a sentinel id"
    TOKENS = "tokens beyond query_start_loc[-1]"
