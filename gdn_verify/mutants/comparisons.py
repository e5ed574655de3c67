"""How published tests compare a result with what they expect: five rules, as pure functions of two tensors.

Each is a frozen value with the numbers of a test, called with (expected, got) of equal shapes; it answers True where
the test would pass. The rules are restated from the sources that `rules` names; no code is taken over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Comparison = Callable[[Tensor, Tensor], bool]
"""(expected, got) of equal shapes and any float type -> whether the test passes."""


@dataclass(frozen=True)
class Close:
    """Every |got - expected| ≤ atol + rtol·|expected|, and no NaN: `torch.testing.assert_close`, `torch.allclose`."""

    rtol: float
    atol: float

    def __call__(self, expected: Tensor, got: Tensor) -> bool:
        return torch.allclose(got.double(), expected.double(), rtol=self.rtol, atol=self.atol)


@dataclass(frozen=True)
class Equal:
    """The same bits."""

    def __call__(self, expected: Tensor, got: Tensor) -> bool:
        return torch.equal(got, expected)


@dataclass(frozen=True)
class Ratio:
    """FLA's rule: rms(got - expected) / (rms(expected) + 1e-8) below `limit`, or no error above 1e-6.

    With `warns`, as under FLA_CI_ENV=1, a larger ratio is a warning where it is below 0.01 or no single error is above
    0.3. NaN fails. Constants: fla/utils/_testing.py:22-41 at bc3b101.
    """

    limit: float
    warns: bool = False

    def __call__(self, expected: Tensor, got: Tensor) -> bool:
        error = (got.double() - expected.double()).flatten()
        if error.isnan().any():
            return False
        largest = float(error.abs().max())
        ratio = float(error.square().mean().sqrt()) / (float(expected.double().square().mean().sqrt()) + 1e-8)
        forgiven = self.warns and (ratio < 0.01 or largest <= 0.3)
        return largest <= 1e-6 or forgiven or ratio < self.limit


@dataclass(frozen=True)
class MaxAndMean:
    """The largest error below one bound, and the mean error below another; NaN fails."""

    most: float
    mean: float

    def __call__(self, expected: Tensor, got: Tensor) -> bool:
        error = (got.double() - expected.double()).abs()
        return float(error.max()) < self.most and float(error.mean()) < self.mean


@dataclass(frozen=True)
class FewBeyond:
    """No NaN or infinity, and an error beyond `bound` in less than this `share` of the elements."""

    bound: float
    share: float

    def __call__(self, expected: Tensor, got: Tensor) -> bool:
        beyond = (got.double() - expected.double()).abs() > self.bound
        return bool(got.isfinite().all()) and float(beyond.double().mean()) < self.share
