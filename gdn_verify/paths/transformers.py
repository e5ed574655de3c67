"""transformers' PyTorch functions of Qwen3-Next: the delta rule token by token, and in chunks.

transformers 5.23 replaces these functions by FLA's kernels wherever `fla` imports, so the plain functions are taken
from behind the decorator; a test holds that they are what runs. Up to 5.22 the model repeats q's and k's heads before
it calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, DType, Group, Padding, Span, Stage, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.compose import Algorithm
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import chunked_float32, sequential_float32
from gdn_verify.paths.base import Launch, Missing, Outputs, Path

if TYPE_CHECKING:
    from torch import Tensor

REPEATS_HEADS = "5.23"
"""The version from which on the functions take fewer heads of q and k than of v."""
MODULE = "transformers.models.qwen3_next.modeling_qwen3_next"
DENSE_PADDINGS: frozenset[Padding] = frozenset()


class Transformers(Path):
    """One of the two functions; equal lengths go as one batch, others row by row, as the model would."""

    hosts = ("cpu", "cuda", "rocm")
    least_reach = 0.01
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        pool=False,
        min_tokens=1,
        paddings=DENSE_PADDINGS,
        states=frozenset({DType.F32}),
        state_orders=frozenset({StateOrder.KV}),
        beta_scales=frozenset({1.0, 2.0}),
        scales=False,
    )

    def __init__(self, name: str, function: str, algorithm: Algorithm) -> None:
        self.name = name
        self._function_name = function
        self._algorithm = algorithm
        self._function: Callable[..., Any] | None = None
        self._repeats_heads = True

    def missing(self, host: str) -> Missing | None:
        if find_spec("transformers") is None:
            return Missing("transformers is not installed", "pip install 'gdn-verify[transformers]'")
        return None

    def load(self, host: str) -> str:
        from importlib import import_module

        import transformers
        from packaging.version import Version

        self._repeats_heads = Version(transformers.__version__) >= Version(REPEATS_HEADS)
        decorated = getattr(import_module(MODULE), self._function_name)
        self._function = getattr(decorated, "__wrapped__", decorated)
        return transformers.__version__

    def run(self, launch: Launch) -> Outputs:
        import torch

        lengths = [row.tokens for row in launch.batch.rows]
        if not lengths:  # its functions take one row at least
            return Outputs(o=_pad_to(launch, launch["v"][:0]), final_state=launch["initial_state"].clone())
        if len(set(lengths)) == 1:
            out, state = self._call(launch, 0, len(lengths), lengths[0])
            return Outputs(o=_pad_to(launch, out.flatten(0, 1)), final_state=state)
        pieces = [self._call(launch, n, n + 1, length) for n, length in enumerate(lengths)]
        out = torch.cat([piece[0].flatten(0, 1) for piece in pieces])
        return Outputs(o=_pad_to(launch, out), final_state=torch.cat([piece[1] for piece in pieces]))

    def _call(self, launch: Launch, first: int, last: int, length: int) -> tuple[Tensor, Tensor]:
        assert self._function is not None, "load comes before run"
        start = launch.batch.query_start_loc[first]
        count = last - first
        names = ("q", "k", "v", "g", "beta")
        q, k, *rest = (launch[n][start : start + count * length].unflatten(0, (count, length)) for n in names)
        if not self._repeats_heads:
            ratio = rest[0].shape[2] // q.shape[2]
            q, k = q.repeat_interleave(ratio, dim=2), k.repeat_interleave(ratio, dim=2)
        out, state = self._function(
            q,
            k,
            *rest,
            initial_state=launch["initial_state"][first:last],
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
        )
        return out, state

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        if self._algorithm is Algorithm.CHUNKED:
            # torch.linalg.solve_triangular, and products of a BLAS
            return chunked_float32(case.dtypes, store=DType.F32, solves=True, serial=case.geometry.K)
        return sequential_float32(case.dtypes, store=DType.F32)


def _pad_to(launch: Launch, out: Tensor) -> Tensor:
    """`out` into the launch's buffer, so that padding and unwritten elements are seen by the same checks."""
    launch["out"][: out.shape[0]] = out
    return launch["out"]


def paths() -> Iterable[Path]:
    """Both functions."""
    return (
        Transformers("transformers-recurrent", "torch_recurrent_gated_delta_rule", Algorithm.SEQUENTIAL),
        Transformers("transformers-chunk", "torch_chunk_gated_delta_rule", Algorithm.CHUNKED),
    )
