"""The corpus's rare cases: each is of a kind that strategies draw never or seldom, and shows what nothing else does."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from gdn_verify import gate
from gdn_verify.campaign import BEGINNING, NURSERY, PATIENCE
from gdn_verify.cases.codec import dumps, load
from gdn_verify.hosts import HOSTS
from gdn_verify.hosts.worker import Worker
from gdn_verify.mutants.nursery import Begin, Try
from gdn_verify.mutants.systematic import Slip, source_of
from gdn_verify.mutants.trial import Fate, Verdict
from gdn_verify.service import Job

FOLDER = Path(gate.__file__).parent / "cases" / "corpus" / "rare"
CONV, SPEC = "triton/conv_prefill_kernel.py", "triton/spec_kernel.py"
GRID = "shape[0] // BLOCK_T + tables.rows"
RARE: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "sizes-beyond-a-block": (
        "dispatch",
        [
            (CONV, "CONV_BLOCKS: tl.constexpr = (D + BLOCK - 1)", "CONV_BLOCKS: tl.constexpr = (D + BLOCK - 2)"),
            (CONV, "(HV * V + BLOCK - 1)", "(HV * V + BLOCK - 2)"),
        ],
    ),
    "more-tokens-than-columns": (
        "dispatch",
        [
            ("triton/conv_prefill.py", GRID, GRID.replace("0", "1")),
            ("triton/gated_norm.py", GRID, GRID.replace("0", "1")),
        ],
    ),
    "many-value-heads": ("dispatch", [(CONV, "- Z_BLOCKS) * BLOCK + lane", "- Z_BLOCKS) + lane")]),
    "silent-channels": ("dispatch", [(CONV, "< 0.0).to(tl.int64)", "<= 0.0).to(tl.int64)")]),
    "narrow-draft-beside-a-prompt": (
        "dispatch", [("operands.py", "num_accepted_tokens is None:", "num_accepted_tokens is not None:")]
    ),
    "strong-gates-over-chunks": ("chunk-delta-long", [("triton/intra_kernel.py", "16 * row - 1", "17 * row - 1")]),
    "gates-between-blocks": (
        "chunk-delta-long",
        [
            (
                "triton/intra_kernel.py",
                "(G_rows - before[:, None]).to(tl.float32)",
                "(G_rows - before[:, None]).to(tl.bfloat16).to(tl.float32)",
            )
        ],
    ),
    "far-tokens": (
        "chunk-delta",
        [("triton/scan_kernel.py", "(query_start_loc + num_rows).to(tl.int64)", "(query_start_loc + num_rows)")],
    ),
    "many-decode-rows": (
        "fused-decode",
        [
            (
                "triton/decode_kernel.py",
                "if SHARERS == 1:\n            store_shifted(",
                "if False:\n            store_shifted(",
            )
        ],
    ),
    "key-head-in-parts": (
        "fused-decode", [("triton/decode_kernel.py", "at = (t // STEPS) * V + ", "at = (t // STEPS) + ")]
    ),
    "values-beyond-a-tile": (
        "chunk-delta",
        [
            ("triton/scan_kernel.py", "TILES: tl.constexpr = (V + BV - 1)", "TILES: tl.constexpr = (V + BV - 2)"),
            ("triton/intra_kernel.py", "diagonal(kk_blocks) + eps", "diagonal(kk_blocks) - eps"),
        ],
    ),
    "sparse-gates-over-chunks": ("chunk-delta", [("triton/scan_kernel.py", "+ 3 * C - 1)", "+ 3 * C - 2)")]),
    "gates-at-the-threshold": (
        "dispatch",
        [
            ("triton/equations.py", "tl.where(x > threshold, x, log1p)", "log1p"),
            ("triton/equations.py", "x > threshold", "x > threshold + 1"),
        ],
    ),
    "faint-gates": (
        "conv-chunk-delta",
        [
            ("triton/equations.py", "tl.log(w) * (e / tl.where(w == 1.0, 1.0, w - 1.0))", "tl.log(w)"),
            ("triton/equations.py", "tl.where(w == 1.0, e, tl.log(w)", "(tl.log(w)"),
        ],
    ),
    "tiny-outputs": (
        "dispatch-two-launch",
        [
            ("triton/prefill.py", "output=output if in_place else None", "output=output"),
            ("triton/equations.py", "x > threshold", "x >= threshold"),
        ],
    ),
    "short-keys": ("chunk-delta-checkpoints", [("triton/intra_kernel.py", "    if QK_NORM:\n", "    if True:\n")]),
    "padded-rows-beyond-few-slots": (
        "dispatch-o",
        [("dispatch.py", "pool.shape[0], conv=True", "pool.shape[1], conv=True")],
    ),
    "drafts-of-three-value-heads": (
        "fused-spec",
        [
            (SPEC, "(tl.arange(0, RP) < R)[:, None] &", "(tl.arange(0, RP) <= R)[:, None] &"),
            (SPEC, "(tl.arange(0, RP) < R)[:, None] &", ""),
        ],
    ),
    "drafts-of-wide-keys": ("fused-spec", [(SPEC, "tl.arange(0, KS)[:, None] * KK", "tl.arange(0, KS)[:, None]")]),
    "many-prompts-far-apart": (
        "chunk-delta",
        [
            ("triton/varlen.py", "query_start_loc + n, mask=n < num_rows, other=0)", "query_start_loc + n)"),
            ("triton/varlen.py", "query_start_loc + row).to(tl.int64)", "query_start_loc + row)"),
        ],
    ),
    "wide-keys-in-segments": ("prefill-null", [("triton/segments.py", "SPAN_COLUMNS = 64", "SPAN_COLUMNS = 65")]),
    "checkpoint-at-the-end": (
        "chunk-delta-checkpoints",
        [
            ("triton/scan_kernel.py", "done <= length", "done < length"),
            ("triton/scan_kernel.py", "first // EVERY", "first % EVERY"),
        ],
    ),
    "drafts-far-apart": (
        "fused-spec", [(SPEC, "tl.load(query_start_loc + row).to(tl.int64)", "tl.load(query_start_loc + row)")]
    ),
    "more-slots-than-channels": (
        "fused-spec", [("triton/tickets.py", "make_tickets(conv_pool.shape[0]", "make_tickets(conv_pool.shape[1]")]
    ),
}  # fmt: skip
"""By file: a path, and mistakes in its kernels, each as what stands there once and what might."""


def test_every_rare_case_is_tried() -> None:
    """A file that no mistake needs proves nothing."""
    assert {file.stem for file in FOLDER.glob("*.json")} == set(RARE)


def mistake(file: str, before: str, after: str) -> Slip:
    text = source_of(file)
    assert text.count(before) == 1, before
    return Slip(after, file, "", "", 1, 10_000, text.index(before), before, after)


@pytest.mark.slow
@pytest.mark.parametrize("name", RARE)
def test_a_rare_case_shows_what_it_was_saved_for(name: str) -> None:
    """And accuses nobody who is right."""
    pytest.importorskip("triton")
    path, mistakes = RARE[name]
    same, file = mistake("operands.py", "class Operands:", "class Operands:"), load(FOLDER / f"{name}.json")
    job = Job(path, "interpreter", file.case.kind, count=1, files=(dumps(file),), watches=1)
    worker = Worker(HOSTS["interpreter"], NURSERY, 0)

    def asked(message: object) -> object:
        worker.send(message)
        return worker.receive(BEGINNING)

    try:
        asked(Begin((job,)))
        for mutant in (same, *(mistake(*each) for each in mistakes)):
            verdict = asked(Try(mutant, {}, (job,), PATIENCE, inf))
            assert isinstance(verdict, Verdict)
            assert verdict.fate == (Fate.SURVIVED if mutant is same else Fate.KILLED), (mutant.after, verdict)
    finally:
        worker.close()
