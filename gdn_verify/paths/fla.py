"""FLA's Triton kernels from the package fla-core: the fused recurrent kernel, and the chunked ones.

Read from fla-core 0.6.0. Both take q, k, v, g (log decay) and β over packed tokens with cu_seqlens, or a and b in their
place, normalise q and k themselves, and return o and a new float32 state. There is no pool, no padding and no
speculative row.

FLA hands some of its functions to other backends where it finds their packages or chips: FlashQLA, TileLang, Gluon,
Ascend (`fla/backends.py`). These paths are of Triton's kernels, so the dispatch is off unless the environment says
FLA_DISABLE_BACKEND_DISPATCH=0, and a launch that ran anything else lacks the kernels named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, DType, Group, Kind, Padding, Span, Stage, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.compose import Algorithm
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import GATES, chunked_float32, chunked_tensor_core, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Missing, Outputs, Path

NO_PADDING: frozenset[Padding] = frozenset()
MODULE = "fla.ops.gated_delta_rule"
NAIVE = f"{MODULE}.naive"
CHUNK_KERNELS = {
    16: ("chunk_scaled_dot_kkt_fwd_kernel", "solve_tril_16x16_kernel"),
    32: ("chunk_scaled_dot_kkt_fwd_kernel", "merge_16x16_to_32x32_inverse_kernel"),
    64: ("chunk_gated_delta_rule_fwd_kkt_solve_kernel",),
}
"""What inverts a chunk's matrix, by the chunk's length (fla-core 0.6.0, `gated_delta_rule/chunk_fwd.py:365-411`)."""
AFTER_INVERSE = ("recompute_w_u_fwd_kernel", "chunk_gated_delta_rule_fwd_kernel_h", "chunk_fwd_kernel_o")
BETA_KERNEL = "fused_beta_sigmoid_fwd_kernel"


class Fla(Path):
    """What the kernels share: packed tokens, dense states, both state orders."""

    hosts: tuple[str, ...] = ("interpreter", "cuda", "rocm", "gfx942", "gfx950")
    function: str

    def missing(self, host: str) -> Missing | None:
        return missing_fla()

    def load(self, host: str) -> str:
        return load_fla(MODULE, self.function)

    def run(self, launch: Launch) -> Outputs:
        import fla.ops.gated_delta_rule as module

        function: Callable[..., Any] = getattr(module, self.function)
        fresh = all(row.fresh for row in launch.batch.rows)  # as a caller knows, who need not look on the device
        out, state = function(
            *(launch[name][None] for name in ("q", "k", "v")),
            **self._gates(launch),
            scale=launch.options.scale,
            initial_state=None if fresh else launch["initial_state"],
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
            state_v_first=launch.presentation.state_order is StateOrder.VK,
            cu_seqlens=launch["query_start_loc"],
        )
        launch["out"].copy_(out[0])
        return Outputs(o=launch["out"], final_state=state)

    def _gates(self, launch: Launch) -> dict[str, Any]:
        """g and β of the left edge, or a and b, which the kernels then turn into them."""
        if Stage.GATES not in self.capabilities.span:
            return {"g": launch["g"][None], "beta": launch["beta"][None]}
        return {
            "g": launch["a"][None], "beta": launch["b"][None], "A_log": launch["A_log"], "dt_bias": launch["dt_bias"],
            "use_gate_in_kernel": True, "use_beta_sigmoid_in_kernel": True,
            "allow_neg_eigval": launch.options.beta_scale == 2.0,
        }  # fmt: skip


class FlaRecurrent(Fla):
    """`fused_recurrent_gated_delta_rule`: one program a row, value head and 8 columns of V, float32 inside."""

    name = "fla-recurrent"
    function = "fused_recurrent_gated_delta_rule"
    entries: tuple[str, ...] = (f"{MODULE}:{function}",)
    least_reach = 0.15
    kernels: tuple[str, ...] = ("fused_recurrent_gated_delta_rule_fwd_kernel",)
    # token by token, long rows are slow, and mixed launches have them
    judged: frozenset[Kind] | None = frozenset({Kind.DECODE, Kind.MIXED})
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        pool=False,
        paddings=NO_PADDING,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return with_gates(recurrent_rounding(case, host), host)


class FlaRecurrentGates(FlaRecurrent):
    """The same kernel from a and b (`use_gate_in_kernel`, `use_beta_sigmoid_in_kernel`, `allow_neg_eigval`)."""

    name = "fla-recurrent-gates"
    variant = True
    capabilities = replace(FlaRecurrent.capabilities, span=Span(Stage.GATES, Stage.DELTA))


class FlaChunk(Fla):
    """`chunk_gated_delta_rule`: chunks of 64 tokens, products of 16-bit operands on tensor cores.

    Shorter chunks are found by name, `fla-chunk:chunk=16`.
    """

    name = "fla-chunk"
    function = "chunk_gated_delta_rule"
    entries: tuple[str, ...] = (f"{MODULE}:{function}",)
    least_reach = 0.03
    chunk = 64
    #: What sums up the gates of a chunk, and what is launched beside.
    before: tuple[str, ...] = ("l2norm_fwd_kernel", "chunk_local_cumsum")
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        pool=False,
        activations=frozenset({DType.BF16, DType.F16}),
        gates=frozenset({DType.F32}),
        paddings=NO_PADDING,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def __init__(self) -> None:
        self.kernels = (*self.before, *CHUNK_KERNELS[self.chunk], *AFTER_INVERSE)

    def configured(self, settings: Mapping[str, int]) -> Path | None:
        chunk = settings.get("chunk", self.chunk)
        rest = {name: value for name, value in settings.items() if name != "chunk"}
        if chunk not in CHUNK_KERNELS or (rest and set(rest) != {"config"}):
            return None
        other = copy(self)
        other.chunk, other.configuration = chunk, rest.get("config")
        other.kernels = (*self.before, *CHUNK_KERNELS[chunk], *AFTER_INVERSE)
        return other

    def configurations(self) -> Iterable[Mapping[str, int]]:
        return [*({"chunk": chunk} for chunk in CHUNK_KERNELS if chunk != self.chunk), *super().configurations()]

    def _gates(self, launch: Launch) -> dict[str, Any]:
        return {**super()._gates(launch), "chunk_size": self.chunk}

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return with_gates(chunk_rounding(case, host, self.chunk), host)


class FlaChunkGates(FlaChunk):
    """The same kernels from a and b: one sums up the gates that it computes, and one makes β."""

    name = "fla-chunk-gates"
    variant = True
    least_reach = 0.1
    before = ("l2norm_fwd_kernel", "gdn_gate_chunk_cumsum_scalar_kernel", BETA_KERNEL)
    capabilities = replace(FlaChunk.capabilities, span=Span(Stage.GATES, Stage.DELTA))


class FlaChunkFloat32(FlaChunk):
    """The same kernels on float32, which 0.6.0 no longer refuses; where products are not cut to TF32 it shows more."""

    name = "fla-chunk-float32"
    variant = True
    hosts = ("interpreter",)
    least_reach = 0.01
    capabilities = replace(FlaChunk.capabilities, activations=frozenset({DType.F32}))


class FlaNaive(Path):
    """FLA's two PyTorch references, row by row: float32, equal heads, unit q and k, states [K, V]."""

    hosts = ("cpu",)
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA, qk_normalised=True),
        groups=frozenset({Group.DECODE, Group.PREFILL}),
        pool=False,
        ratios=frozenset({1}),
        min_tokens=1,
        states=frozenset({DType.F32}),
        state_orders=frozenset({StateOrder.KV}),
        paddings=NO_PADDING,
        beta_scales=frozenset({1.0, 2.0}),
    )

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        word = "recurrent" if algorithm is Algorithm.SEQUENTIAL else "chunk"
        self.name = f"fla-naive-{word}"
        self.function = f"naive_{word}_gated_delta_rule"
        self.entries = (f"{NAIVE}:{self.function}",)

    def missing(self, host: str) -> Missing | None:
        return missing_fla()

    def load(self, host: str) -> str:
        return load_fla(NAIVE, self.function)

    def run(self, launch: Launch) -> Outputs:
        import fla.ops.gated_delta_rule.naive as module

        function: Callable[..., Any] = getattr(module, self.function)
        states = launch["initial_state"].clone()
        starts = launch.batch.query_start_loc
        for row, (start, end) in enumerate(pairwise(starts)):
            tensors = {name: launch[name][None, start:end] for name in ("q", "k", "v", "g", "beta")}
            out, states[row : row + 1] = function(
                **tensors, scale=launch.options.scale, initial_state=states[row : row + 1], output_final_state=True
            )
            launch["out"][start:end] = out[0]
        return Outputs(o=launch["out"], final_state=states)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        K = case.geometry.K
        if self.algorithm is Algorithm.CHUNKED:
            return chunked_float32(case.dtypes, store=DType.F32, serial=K)
        return sequential_float32(case.dtypes, store=DType.F32, serial=K)


def missing_fla() -> Missing | None:
    """Why FLA's kernels cannot be imported here, without importing them."""
    for package in ("triton", "fla"):
        if find_spec(package) is None:
            return Missing(f"{package} is not installed", "pip install 'gdn-verify[fla]'")
    return None


def load_fla(module: str, function: str) -> str:
    """Import a function of FLA's with its own Triton kernels and no other backend's; the version."""
    import os

    os.environ.setdefault("FLA_DISABLE_BACKEND_DISPATCH", "1")
    assert hasattr(import_module(module), function)
    return version("fla-core")


def recurrent_rounding(case: Case, host: str) -> Rounding:
    """What the recurrent kernel rounds."""
    # numpy, and so the interpreter, sums the leading axis of a block term by term; a warp sums it as a tree.
    serial = case.geometry.K if host == "interpreter" else 1
    return sequential_float32(case.dtypes, store=DType.F32, serial=serial)


def chunk_rounding(case: Case, host: str, chunk: int) -> Rounding:
    """What the chunk kernels round; the inverse of 64 tokens alone is merged in TF32 where a chip has it."""
    if case.dtypes.activation is DType.F32:
        return chunked_float32(case.dtypes, chunk=chunk, store=DType.F32, serial=case.geometry.K)
    narrow = host == "cuda" and chunk == 64
    return chunked_tensor_core(case.dtypes, chunk=chunk, store=DType.F32, tf32_inverse=narrow)


def with_gates(rounding: Rounding, host: str) -> Rounding:
    """The same after gates in float32; on a CUDA card their softplus is of `ex2.approx` and `lg2.approx`.

    Both may miss by 2⁻²² or a little less (PTX ISA), relative to 1 + exp(x) (`fla/ops/utils/softplus.py:17-26`).
    """
    return overlaid(rounding, {**GATES, Site.SOFTPLUS: (DType.F32, 4 if host == "cuda" else 2)})


def paths() -> Iterable[Path]:
    """All kernels, both edges, and the references."""
    kernels = (FlaRecurrent(), FlaRecurrentGates(), FlaChunk(), FlaChunkGates(), FlaChunkFloat32())
    return (*kernels, FlaNaive(Algorithm.SEQUENTIAL), FlaNaive(Algorithm.CHUNKED))
