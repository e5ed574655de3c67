"""What a path raises tells its stage: by the functions on the stack, and by nothing where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DTypes, Geometry, Span, Stage
from gdn_verify.cases.presentation import Presentation
from gdn_verify.hosts import HOSTS
from gdn_verify.localise import localise
from gdn_verify.located import Found, Raised
from gdn_verify.mutants import planter_of
from gdn_verify.paths import find
from gdn_verify.paths.base import Launch, Outputs
from gdn_verify.paths.fallback import Fallback
from gdn_verify.raised import stage_of_error, stages_in
from gdn_verify.service import planter

LAYER = Span(Stage.UNPACK, Stage.NORM)
STEP = Case(Geometry(1, 3, 1, 1, W=2), DTypes(), 1, (Batch((Row(1, (0,)),)),))
DRAFTS = Case(
    Geometry(1, 1, 1, 1, W=2, num_spec=1), DTypes(), 5,
    (Batch((Row(1, (1,)),)), Batch((Row(2, (3, 4), accepted=1), Row(1, (1,))))),
)  # fmt: skip


def located(name: str, case: Case) -> Found | None:
    path = find("fallback")
    path.load("cpu")
    run = planter(planter_of(name))(path)  # type: ignore[misc]
    return localise(case, Presentation(), path, HOSTS["cpu"], run)


@pytest.mark.parametrize(
    ("name", "case", "launch", "stage"),
    [
        ("squeezed_launch_of_one_token", STEP, 0, "conv"),
        ("split_into_views_at_odd_ratios", STEP, 0, "unpack"),
        ("zero_ids_after_a_resize", DRAFTS, 1, "conv"),
    ],
)
def test_what_a_mutant_raises_has_a_stage(name: str, case: Case, launch: int, stage: str) -> None:
    """That whose function is on the stack; of a table that is refused the first that reads it."""
    seen = located(name, case)
    assert isinstance(seen, Raised)
    assert (seen.launch, seen.stage) == (launch, stage)
    assert "Traceback" in seen.finding.message


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("causal_conv1d_update", "conv"),
        ("fused_qkvzba_split_reshape_cat", "unpack"),
        ("Qwen3NextGatedDeltaNet.fix_query_key_value_ordering", "unpack"),
        ("Qwen3NextRMSNormGated.forward", "norm"),
        ("layer_norm_gated_fwd", "norm"),
        ("fused_norm_gate", "norm"),
        ("l2norm_fwd", "gates"),
        ("fused_gdn_gating", "gates"),
        ("chunk_gated_delta_rule_fwd", "delta"),
        ("torch_recurrent_gated_delta_rule", "delta"),
        ("fused_sigmoid_gating_delta_rule_update", "gates delta"),
        ("Qwen3NextGatedDeltaNet.forward", ""),
        ("gated_delta_net_packed", ""),
        ("expect_shape", ""),
        ("gdn_attention_core", ""),
    ],
)
def test_names_of_functions_speak_of_stages(name: str, stages: str) -> None:
    """Of third parties' as well: the layer as a whole is none, and a kernel of two stages is of both."""
    assert " ".join(stages_in(name, LAYER)) == stages


def kernel(name: str, module: str, message: str, inner: Callable[[], None] | None = None) -> Callable[[], None]:
    """A function of another package, which raises itself or by way of another."""
    body = "inner()" if inner else "raise RuntimeError(message)"
    home = ModuleType(module)
    vars(home).update(inner=inner, message=message)
    exec(f"def {name}():\n    {body}\n", vars(home))
    made: Callable[[], None] = vars(home)[name]
    return made


class Foreign(Fallback):
    """An adapter of a package that is not this project's."""

    name = "foreign"

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def run(self, launch: Launch) -> Outputs:
        self._convolve()
        return super().run(launch)

    def _convolve(self) -> None:
        self.call()


def stage(call: Callable[[], None]) -> str:
    seen = localise(STEP, Presentation(), Foreign(call), HOSTS["cpu"])
    assert isinstance(seen, Raised)
    return seen.stage


def test_the_deepest_function_that_speaks_is_believed() -> None:
    """Not those of libraries below it, nor those around it; the file tells where the function does not."""
    library = kernel("layer_norm", "torch.nn.functional", "no")
    assert stage(kernel("causal_conv1d_fn", "pack.ops", "", library)) == "conv"
    assert stage(kernel("chunk_delta_rule", "pack.ops", "", kernel("l2norm_fwd", "pack.ops", "no"))) == "gates"
    assert stage(kernel("forward", "pack.convolution", "no")) == "conv"


def test_what_nothing_tells_is_not_told() -> None:
    """A kernel of two stages, a stack without names, and the adapter's own functions, whatever they are called."""
    assert stage(kernel("fused_sigmoid_gating_delta_rule_update", "pack.ops", "state_indices: wrong")) == ""
    assert stage(kernel("launch", "pack.ops", "no")) == ""


def test_a_wrong_table_is_read_by_the_first_stage_with_states() -> None:
    """Where nothing else tells."""
    assert stage(kernel("launch", "pack.ops", "cu_seqlens must be contiguous")) == "conv"


def test_a_path_of_one_stage_raises_in_it() -> None:
    """Whatever is on the stack."""
    path = Foreign(lambda: None)
    path.capabilities = replace(path.capabilities, span=Span(Stage.DELTA, Stage.DELTA))
    assert stage_of_error(RuntimeError("no"), path) == "delta"
