"""Contract: the short cuts for operators give what Triton's own type checks give, or raise as they do."""

from collections.abc import Callable
from typing import Any

import pytest
import shortcuts


@pytest.mark.parametrize("which", sorted(shortcuts.OPERATORS))
def test_operators_agree_with_the_long_way_round(interpreted: Callable[..., Any], which: str) -> None:
    """Type, shape and bits, on every pair of types, broadcasting shapes, plain numbers and pointers."""
    count, differences = interpreted(shortcuts.operator_differences, which)
    assert differences == []
    assert count > 200


def test_semantic_agrees_with_the_long_way_round(interpreted: Callable[..., Any]) -> None:
    """Casts between all types, broadcasts, new dimensions and splats."""
    count, differences = interpreted(shortcuts.semantic_differences)
    assert differences == []
    assert count > 1000
