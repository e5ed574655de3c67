"""What a launch leaves open is asked of it made otherwise: how its inputs are read, and where a state is rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import WRITE_BACK, DType, DTypes, Geometry
from gdn_verify.cases.presentation import Packing, Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Values, Vectors
from gdn_verify.hosts import HOSTS
from gdn_verify.localise import localise
from gdn_verify.mutants import planter_of
from gdn_verify.mutants.inputs import Run
from gdn_verify.mutants.replaced import Function, replaced
from gdn_verify.paths import find
from gdn_verify.paths.base import Launch, Outputs, Path
from gdn_verify.service import planter

NORMAL = Values(5, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.NORMAL, state=States.NORMAL)
NARROW = Case(Geometry(1, 1, 4, 4, W=2), DTypes(activation=DType.F16), 1, (Batch((Row(1, (0,)),)),), NORMAL)
TWO = Case(Geometry(1, 2, 2, 2, W=2), DTypes(), 2, (Batch((Row(1, (0,)), Row(1, (1,)))),), NORMAL)
STRIDED = Presentation(row_pad=16)


def stage(case: Case, shown: Presentation, plant: Callable[[Path], Run] | str) -> str:
    path = find("fallback")
    path.load("cpu")
    made = planter(planter_of(plant)) if isinstance(plant, str) else plant
    seen = localise(case, shown, path, HOSTS["cpu"], made(path))  # type: ignore[misc]
    assert seen is not None
    return seen.stage


def rounded_where_stored(path: Path) -> Run:
    """A state is rounded once, behind the last of its row's tokens."""

    def wrong(right: Function, launch: Launch) -> Function:
        return lambda state, slots, h: right(state, slots, h.to(launch["out"].dtype).float())

    return replaced(path, {"delta._store": wrong})


def test_a_state_that_is_rounded_at_every_token_is_so_before_it_is_stored() -> None:
    """Of one token that cannot be told; of more, errors are more than one rounding."""
    assert stage(NARROW, Presentation(), "state_in_low_precision") == "delta"


def test_drafts_of_states_that_are_forgotten_are_asked_of_states_that_last() -> None:
    """A table has room for few tokens, and what is forgotten, or too small to round, tells nothing."""
    values = Values(276, Vectors.ONE_HOT, Vectors.NORMAL, Fill.NORMAL, Gates.STRONG, Betas.NEAR_ZERO, States.NORMAL)
    rows = (Row(3, (5, 6, 7, 8, 9), accepted=5), Row(4, (0, 1, 2, 3, None), accepted=2))
    shape = Geometry(1, 1, 1, 1, W=2, num_spec=4)
    drafts = Case(shape, DTypes(activation=DType.F16), 10, (Batch(rows),), values)
    assert stage(drafts, Presentation(), "state_in_low_precision") == "delta"
    assert stage(drafts, Presentation(), rounded_where_stored) == WRITE_BACK


def test_a_state_that_is_rounded_where_it_is_stored_stays_a_matter_of_that() -> None:
    """However many tokens go before."""
    assert stage(NARROW, Presentation(), rounded_where_stored) == WRITE_BACK
    long = replace(NARROW, batches=(Batch((Row(20, (0,)),)),))
    assert stage(long, Presentation(), rounded_where_stored) == WRITE_BACK


def test_inputs_that_are_read_as_if_dense_are_read_wrongly() -> None:
    """Though it is the gates that are wrong first."""
    assert stage(TWO, STRIDED, "compact_projections") == "unpack"


def flat_alone(path: Path) -> Run:
    """Projections are taken for flat."""

    def run(launch: Launch) -> Outputs:
        return path.run(replace(launch, presentation=replace(launch.presentation, packing=Packing.FLAT)))

    return run


def test_inputs_of_the_other_packing_are_read_wrongly() -> None:
    """Though it is the conv that is wrong first."""
    wide = replace(TWO, geometry=Geometry(2, 2, 2, 2, W=2))
    assert stage(wide, Presentation(packing=Packing.INTERLEAVED), flat_alone) == "unpack"


@pytest.mark.parametrize(("name", "told"), [("decay_in_low_precision", "gates"), ("decay_forgotten", "delta")])
def test_what_is_wrong_however_inputs_lie_is_not_a_matter_of_reading_them(name: str, told: str) -> None:
    """It has the stage that it has without strides."""
    case = replace(TWO, dtypes=DTypes(activation=DType.BF16))
    assert stage(case, replace(STRIDED, packing=Packing.INTERLEAVED), name) == told


def test_what_is_wrong_once_is_no_matter_of_how_inputs_lie() -> None:
    """The second time it is right in any layout."""

    def plant(path: Path) -> Run:
        first = iter([True])

        def wrong(right: Function, launch: Launch) -> Function:
            def gates(*args: Tensor) -> tuple[Tensor, Tensor]:
                g, beta = right(*args)
                return (torch.zeros_like(g) if next(first, False) else g), beta

            return gates

        return replaced(path, {"fallback.gates": wrong})

    assert stage(TWO, STRIDED, plant) == "gates"
