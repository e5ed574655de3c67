"""FLA's kernels as paths: lengths of a chunk, backends that stay off, and how a caller gathers dense states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.sites import Site
from gdn_verify.paths import find
from gdn_verify.paths.base import Launch
from gdn_verify.paths.gathered import conv_windows, put_conv_windows, put_states, states
from gdn_verify.paths.registry import UnknownPathError

GEOMETRY = Geometry(1, 1, 2, 3, W=3, num_spec=1)


@pytest.mark.parametrize(
    ("chunk", "kernel"),
    [
        (16, "solve_tril_16x16_kernel"),
        (32, "merge_16x16_to_32x32_inverse_kernel"),
        (64, "chunk_gated_delta_rule_fwd_kkt_solve_kernel"),
    ],
)
def test_a_chunk_by_name_has_its_own_kernels_and_roundings(chunk: int, kernel: str) -> None:
    """Another kernel inverts each length; a launch without it is not green, and rounds elsewhere."""
    path, case = find(f"fla-chunk:chunk={chunk}/config=2"), Case(GEOMETRY, DTypes(), 1, (Batch((Row(1, (0,)),)),))
    assert kernel in path.kernels
    assert path.configuration == 2
    assert path.rounding(case, Presentation(), "interpreter").chunk == chunk


@pytest.mark.parametrize("name", ["fla-chunk:chunk=48", "fla-chunk:chunk=16/warps=2", "fla-recurrent:chunk=16"])
def test_no_path_of_a_configuration_that_is_none(name: str) -> None:
    """Chunks are 16, 32 or 64 tokens, and the recurrent kernel has none."""
    with pytest.raises(UnknownPathError):
        find(name)


def test_gates_round_where_the_kernel_computes_them() -> None:
    """A CUDA card's softplus is an approximation; everywhere β and g are float32 that nobody stores."""
    case = Case(GEOMETRY, DTypes(), 1, (Batch((Row(1, (0,)),)),))
    softplus = {
        host: find("fla-chunk-gates").rounding(case, Presentation(), host).levels[Site.SOFTPLUS, 0]
        for host in ("interpreter", "cuda")
    }
    assert 0 < softplus["interpreter"] < softplus["cuda"]


def test_no_other_backend_is_asked() -> None:
    """FLA would hand its calls to whatever package is there; a process that has loaded a path does not."""
    pytest.importorskip("fla", reason="pip install 'gdn-verify[fla]'")
    pytest.importorskip("triton", reason="pip install 'gdn-verify[fla]'")
    source = (
        "from gdn_verify.paths import find\n"
        "find('fla-naive-chunk').load('cpu')\n"
        "from fla import backends\n"
        "assert backends._DISPATCH_DISABLED\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", source], check=True, cwd=root, timeout=300)


def launch() -> Launch:
    """Three rows: a resumed one, a fresh one and one without tokens, in slots 2, 0 and 1."""
    rows = (Row(2, (2,)), Row(1, (0,), fresh=True), Row(0, (1,)))
    nan_at = torch.tensor([True, False, False])  # nobody reads a fresh row's slot
    tensors = {
        "state_indices": torch.tensor([2, 0, 1], dtype=torch.int32),
        "has_initial_state": torch.tensor([True, False, True]),
        "ssm_pool": torch.arange(18.0).view(3, 1, 3, 2).masked_fill(nan_at.view(3, 1, 1, 1), torch.nan),
        "conv_pool": torch.arange(63.0).view(3, 7, 3).masked_fill(nan_at.view(3, 1, 1), torch.nan),
    }
    case = Case(GEOMETRY, DTypes(), 3, (Batch(rows),))
    return Launch(case.geometry, case.dtypes, case.options, case.batches[0], Presentation(), tensors)


def test_a_fresh_row_is_given_zeros() -> None:
    """Whatever its slot holds, NaN included; and the oldest of W inputs of any row is NaN, as nothing may read it."""
    given = launch()
    assert torch.equal(states(given)[1], torch.zeros(1, 3, 2))
    assert torch.equal(states(given)[0], given["ssm_pool"][2])
    windows = conv_windows(given)
    assert windows.shape == (3, 7, 3)
    assert windows[:, :, 0].isnan().all()
    assert torch.equal(windows[0, :, 1:], given["conv_pool"][2, :, :2])
    assert torch.equal(windows[1, :, 1:], torch.zeros(7, 2))


def test_only_rows_with_tokens_are_put_back() -> None:
    """Of a conv slot only the first W - 1 columns; the others are of drafts."""
    given = launch()
    before = given["conv_pool"][1].clone(), given["ssm_pool"][1].clone(), given["conv_pool"][2, :, 2].clone()
    put_states(given, torch.full((3, 1, 3, 2), 7.0))
    put_conv_windows(given, torch.full((3, 7, 3), 7.0))
    assert torch.equal(given["conv_pool"][1], before[0])
    assert torch.equal(given["ssm_pool"][1], before[1])
    assert torch.equal(given["conv_pool"][2, :, 2], before[2])
    assert (given["ssm_pool"][[0, 2]] == 7.0).all()
    assert (given["conv_pool"][[0, 2], :, :2] == 7.0).all()
