"""Laws catch defects of the prefill kernels by themselves: copies of the kernels with one place changed."""

from __future__ import annotations

import pytest

from gdn_verify.mutants import MUTANTS
from gdn_verify.mutants.evidence import LAWS_OF_KERNELS

from .planting import Edit, of_catalogue, planted

pytest.importorskip("triton")
CASES = 25
LONG = {"max_rows": 1, "max_row_tokens": 130, "max_tokens": 260, "max_dim": 16}
"""Bounds of launches for segments: one row of several chunks."""
EDITS = [
    ("split", "chunk-delta:segments=3", of_catalogue("segments_apply_twice_the_state")),
    ("split", "chunk-delta", Edit(
        "the state is decayed when it is read", "scan_kernel.py", "other=0).to(tl.float32)",
        "other=0).to(tl.float32) * 0.95")),
    ("packing", "chunk-delta", of_catalogue("chunks_of_another_row")),
    ("packing", "chunk-delta", of_catalogue("beta_behind_the_row")),
    ("causality", "chunk-delta", Edit(
        "a token sees the next one", "intra_kernel.py", "i[:, None] >= i[None, :], within",
        "i[:, None] + 1 >= i[None, :], within")),
    ("no-decay", "chunk-delta-exact", of_catalogue("differences_of_zero_dropped")),
    ("forgetting", "chunk-delta-exact", Edit(
        "decays are bounded", "intra_kernel.py", "tl.exp2(G.to(tl.float32))",
        "tl.exp2(tl.maximum(G.to(tl.float32), -5.0))")),
    ("sharding", "chunk-delta", Edit(
        "value head j reads key head j % H", "intra_kernel.py", "head // (HV // H)", "head % H")),
    ("homogeneity", "chunk-delta", Edit(
        "v is offset", "scan_kernel.py", "fresh = values.to(tl.float32)", "fresh = values.to(tl.float32) + 0.1")),
    ("layout", "chunk-delta", Edit(
        "the strides of K×V", "chunk_state.py", "V if STATE_KV else 1", "K if STATE_KV else 1")),
]  # fmt: skip


def accused(law: str, name: str, edit: Edit) -> str:
    """In the interpreter's process: the first finding of the law on kernels with this edit, "" for none."""
    from dataclasses import replace

    from gdn_verify.cases.contract import Kind
    from gdn_verify.cases.shapes import draw_cases
    from gdn_verify.cases.sizes import BRIEF
    from gdn_verify.cases.strategies import cases
    from gdn_verify.checks.laws.judge import judge
    from gdn_verify.hosts import HOSTS
    from gdn_verify.paths import find

    path = find(name)
    path.load("interpreter")
    size = replace(BRIEF, **LONG) if ":segments" in name else BRIEF
    drawn = draw_cases(cases(path.capabilities, path.conventions, Kind.PREFILL, size=size), CASES, 0)
    with planted(edit):
        for case, shown in drawn:
            result = judge(case, shown, path, HOSTS["interpreter"], lambda other: other.run, (law,))[law]
            if result.findings:
                return str(result.findings[0])
    return ""


def test_the_bugs_that_laws_see_in_kernels_are_planted_here():
    """Those that are mutants of the catalogue, in their own paths."""
    planted = {(edit.name, law): path for law, path, edit in EDITS if edit.name in MUTANTS}
    assert set(planted) == set(LAWS_OF_KERNELS)
    assert all(MUTANTS[name].path == path for (name, _), path in planted.items())


@pytest.mark.parametrize(("law", "path", "edit"), EDITS, ids=str)
def test_a_law_catches_a_kernels_defect(interpreted, law, path, edit):
    """By a relation that does not hold, not by an exception."""
    found = interpreted(accused, law, path, edit)
    assert found.startswith(f"laws/{law}: ")
    assert "raised" not in found.splitlines()[0]
