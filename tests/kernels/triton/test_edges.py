"""What a reviewer found: each was once wrong, and is refused, right or harmless now."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from gdn_verify.kernels.fallback import Layer
from gdn_verify.kernels.triton import checks
from gdn_verify.kernels.triton.target import Target, check_join

from . import edges


def packed(layer: Layer) -> torch.Tensor:
    return torch.zeros(1, layer.channels + layer.num_v_heads * layer.head_v_dim)


def sized(H: int, HV: int, K: int, V: int) -> Layer:
    return Layer(H, HV, K, V, torch.zeros(2 * H * K + HV * V, 4), torch.zeros(HV), torch.zeros(HV))


@pytest.mark.parametrize(("layer", "named"), [(sized(1, 5, 8, 8), "num_v_heads=5"), (sized(1, 1, 8, 512), "512")])
def test_sizes_that_no_kernel_is_made_for_are_refused(layer, named):
    """A ratio whose programs cannot share a ticket's quantum; heads wider than the contract has them."""
    with pytest.raises(ValueError, match=named):
        checks.check_packed(packed(layer), None, layer, "flat")


def test_a_gradient_is_refused_and_not_dropped():
    """Of a parameter too; without a gradient being asked nothing is in the way."""
    layer = edges.layer()
    layer = replace(layer, A_log=layer.A_log.requires_grad_())
    with pytest.raises(RuntimeError, match="gradient"):
        checks.check_packed(packed(layer), None, layer, "flat")
    with torch.no_grad():
        checks.check_packed(packed(layer), None, layer, "flat")


def test_the_stride_of_a_dimension_of_size_one_means_nothing():
    """A pool of one head that is a transposed view; a count that is one row of a table."""
    checks.check_pool(edges.layer(), torch.zeros(1, 5, 8, 8).transpose(0, 1), "VK")
    assert checks.is_laid_out(torch.zeros(3, 1, 8).as_strided((3, 1, 8), (8, 99, 1)), (8, 1))
    assert not checks.is_laid_out(torch.zeros(3, 2, 16)[..., ::2], (8, 1))


def test_v_is_not_split_before_a_norm_on_amd():
    """Parts of a head's output cannot be handed over there, whoever asks for it."""
    with pytest.raises(ValueError, match="splits=4 before a norm on gfx942"):
        check_join(Target("hip", "gfx942"), 4)
    check_join(Target("cuda", "90"), 4)


def test_legal_numbers_do_not_overflow(interpreted):
    """S k̂ is finite where S k is not."""
    finite, error = interpreted(edges.large_numbers)
    assert finite
    assert error < 1e-6


def test_a_small_softplus_keeps_its_digits(interpreted):
    """log(1 + e^-12) from a rounded sum would be wrong in the third digit."""
    assert interpreted(edges.small_softplus) < 1e-5


def test_garbage_offsets_write_nothing_before_the_output(interpreted):
    """Rows of padding are filled with zeros, from token 0 on at the earliest."""
    assert interpreted(edges.offsets_below_zero)
