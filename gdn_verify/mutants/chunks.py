"""Defects of the chunk kernels, planted in copies of their source. Each is the like of a bug of the catalogue."""

from __future__ import annotations

from gdn_verify.mutants.edits import edited
from gdn_verify.mutants.planted import Run
from gdn_verify.paths.base import Path

INTRA, SCAN, LAUNCH = "intra_kernel.py", "scan_kernel.py", "chunk.py"


def mask_after_the_exponent(path: Path) -> Run:
    """Decays to later tokens are computed, and multiplied by 0: where e^x overflows that is NaN."""
    masked = 'tl.exp2(tl.where(c[None, :] // 16 < row[:, None], of_columns, float("-inf")))'
    return edited(path, (INTRA, masked, "tl.exp2(of_columns) * (c[None, :] // 16 < row[:, None]).to(tl.float32)"))


def decay_of_an_earlier_row(path: Path) -> Run:
    """A chunk's state decays as far as the third token from its end."""
    return edited(path, (SCAN, "factors + at * 3 * C + 3 * C - 1", "factors + at * 3 * C + 3 * C - 3"))


def sum_not_carried(path: Path) -> Run:
    """The running sum of gates begins anew every 16 tokens."""
    right = "G = tl.cumsum(gates.to(tl.float64) * 1.4426950408889634, 0)"
    wrong = "G = tl.cumsum((gates.to(tl.float64) * 1.4426950408889634).reshape(n, 16), 1).reshape(C)"
    return edited(path, (INTRA, right, wrong))


def decay_as_two_exponentials(path: Path) -> Run:
    """The decay from a token to its chunk's end is e^(G_C) · e^(-G): 0 · ∞ where either is strong."""
    right = "to_end = tl.exp2((tl.gather(G, tl.full([C], C - 1, tl.int32), 0) - G).to(tl.float32))"
    wrong = (
        "to_end = tl.exp2(tl.gather(G, tl.full([C], C - 1, tl.int32), 0).to(tl.float32)) * tl.exp2(-G.to(tl.float32))"
    )
    return edited(path, (INTRA, right, wrong))


def one_row_is_never_short(path: Path) -> Run:
    """A launch of one row has full chunks alone, as if its length were a multiple of them."""
    return edited(
        path,
        (INTRA, "remaining = (length - begin).to(tl.int32)",
         "remaining = tl.where(num_rows == 1, C, (length - begin).to(tl.int32))"),
    )  # fmt: skip


def chunk_numbers_for_starts(path: Path) -> Run:
    """What looks for a chunk's row is given how many chunks come before each row, not where the row starts."""
    right = "q, k, g, beta, tables.query_start_loc, w, b, factors,"
    wrong = (
        "q, k, g, beta, torch.nn.functional.pad((tables.query_start_loc.diff() + C - 1) // C, (1, 0))"
        ".cumsum(0).to(tables.query_start_loc.dtype), w, b, factors,"
    )
    return edited(path, (LAUNCH, right, wrong))


def chunks_of_all_tokens(path: Path) -> Run:
    """There are as many programs and places for chunks as all tokens fill, though no chunk crosses a row's end."""
    return edited(path, (LAUNCH, "KP, blocks = padded(K), T // C + N", "KP, blocks = padded(K), (T + C - 1) // C"))
