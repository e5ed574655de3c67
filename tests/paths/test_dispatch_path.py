"""The path `dispatch`: what it must have launched follows from the rows, and its plan from what they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.contract import DType, DTypes, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors
from gdn_verify.hosts import Host
from gdn_verify.kernels.plan import plan_rows
from gdn_verify.kernels.tables import Row as KernelRow
from gdn_verify.oracles.compose import Algorithm
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.dispatch import Dispatch, plan
from gdn_verify.runner import run_case

NORMAL = Values(
    4, Vectors.NORMAL, Vectors.NORMAL, Fill.NORMAL, Gates.NORMAL, Betas.NORMAL, States.NORMAL, Taps.NORMAL, Fill.NORMAL
)
DECODE, PROMPT, SPEC = Row(1, (0,)), Row(3, (1,), fresh=True), Row(2, (2, 3), accepted=1)
EMPTY, PADDED, ELSEWHERE = Row(0, (4,)), Row(1, (None,)), Row(1, (5,), read=6)
IN_PLACE = Row(1, (0,), read=0)


@dataclass(frozen=True)
class Quiet(Host):
    """A host that is not the cpu by name, on which these kernels are said to have been launched."""

    launched: list[str] = field(default_factory=list)

    @contextmanager
    def launches(self) -> Iterator[list[str]]:
        yield [*self.launched]


PREFILL = {"gdn_conv_prefill_kernel", "gdn_intra_kernel", "gdn_scan_kernel", "gdn_gated_norm_kernel"}


@pytest.mark.parametrize(
    ("rows", "needed"),
    [
        ((DECODE, EMPTY), {"gdn_decode_kernel"}),
        ((SPEC, PADDED), {"gdn_spec_kernel"}),
        ((SPEC, PROMPT, DECODE), {"gdn_decode_kernel", "gdn_spec_kernel", *PREFILL}),
        ((PROMPT, ELSEWHERE), PREFILL),
        ((PROMPT, IN_PLACE, ELSEWHERE), {"gdn_decode_kernel", *PREFILL}),
        ((EMPTY, PADDED), set()),
    ],
)
def test_live_rows_decide_what_is_attested(rows, needed):
    """Green with the kernels of the live rows, and red without any one of them, or with others'.

    A padded row looks like one of its kind, and may have that one's kernel launched.
    """
    case = Case(Geometry(H=1, HV=2, K=4, V=4, num_spec=1), DTypes(), 7, (Batch(rows),), NORMAL)
    path = Dispatch()
    path.load("cpu")

    def attested(launched: set[str]) -> bool:
        result = run_case(case, Presentation(), path, Quiet("interpreter", "cpu", launched=[*launched]))
        return not any(finding.kind == "attestation" for finding in result.findings)

    assert attested(needed)
    assert not any(attested(needed - {kernel}) for kernel in needed)
    looked_like = {"gdn_decode_kernel"} if PADDED in rows else set()
    others = {"gdn_decode_kernel", "gdn_spec_kernel", *PREFILL} - needed - looked_like
    assert attested(needed | looked_like)
    assert not needed or not any(attested(needed | {kernel}) for kernel in others)


@pytest.mark.parametrize(
    ("host", "rows", "algorithm"),
    [
        ("interpreter", (DECODE, PROMPT), Algorithm.FOLDED),
        ("interpreter", (SPEC, DECODE, PROMPT), Algorithm.FOLDED),
        ("interpreter", (SPEC, DECODE), Algorithm.SEQUENTIAL),
        ("cpu", (DECODE, PROMPT), Algorithm.SEQUENTIAL),
    ],
)
@pytest.mark.parametrize("dtypes", [DTypes(), replace(DTypes(), activation=DType.F32)], ids=["narrow", "wide"])
def test_prefill_rows_are_said_to_round_in_chunks(host, rows, algorithm, dtypes):
    """Where kernels serve them; and conv, gates and norm round whatever the algorithm is."""
    case = Case(Geometry(H=1, HV=2, K=4, V=4, num_spec=1), dtypes, 7, (Batch(rows),), NORMAL)
    rounding = Dispatch().rounding(case, Presentation(), host)
    assert rounding.algorithm is algorithm
    sites = [site for site, _, _ in rounding.sites]
    assert len(sites) == len(set(sites))
    assert {Site.CONV_SUM, Site.CONV_OUT, Site.GATE, Site.NORM_SUM, Site.NORM_OUT} <= set(sites)


@pytest.mark.parametrize(
    "rows",
    [
        (DECODE,), (DECODE, EMPTY), (PADDED,), (SPEC, PADDED), (PROMPT,), (ELSEWHERE, DECODE), (IN_PLACE,),
        (ELSEWHERE, IN_PLACE), (),
    ],
    ids=str,
)  # fmt: skip
def test_its_plan_is_the_kernels_own(rows):
    """The path tells the dispatcher of a batch what `plan_rows` tells of the same rows."""
    same = [
        KernelRow(
            row.tokens,
            tuple(-1 if slot is None else slot for slot in row.slots),
            accepted=row.accepted,
            fresh=row.fresh,
            read_slot=row.read,
        )
        for row in rows
    ]
    assert plan(Batch(rows)) == plan_rows(same)
