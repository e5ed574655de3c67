"""How many segments rows are cut into where a launch does not say: an estimate, by which no result changes."""

from __future__ import annotations

import triton

MOST_SEGMENTS = 16
"""Of one row, by default: beyond it the walk over them is no longer short."""
SCAN_US, SPAN_US, JOIN_US, LAUNCHES_US, GAIN = 1.15, 1.9, 1.0, 8.0, 1.2
"""What steers a choice and promises nothing: µs of a chunk in the scan and in the span kernel, of a segment in the
join, of two more launches; and how much faster the estimate must be before rows are cut. Set by hand so that the
estimate agrees with whole calls on an H200 (docs/prefill.md); no kernel was timed alone but the scan, 142 µs for 128
chunks."""


def choose_segments(N: int, T: int, HV: int, tiles: int, span_tiles: int, processors: int, chunk: int = 64) -> int:
    """Into how many segments a row of all T tokens is to be cut; 1 is not at all.

    `tiles` programs of the scan for each value head, `span_tiles` of the span kernel, one at a time on each of the
    `processors`. All rows are taken to be equally long, as lengths are not known here: then they have the least to
    gain. A cut pays where the chunks that one processor scans, one after the other, become fewer than what the same
    chunks cost in the span kernel.
    """
    chunks = triton.cdiv(T, chunk * N)

    def estimate(segments: int) -> float:
        each = triton.cdiv(chunks, segments)
        scan = triton.cdiv(N * HV * tiles * segments, processors) * each * SCAN_US
        span = triton.cdiv(N * HV * span_tiles * (segments - 1), processors) * each * SPAN_US
        return scan + span + JOIN_US * segments + LAUNCHES_US

    whole = triton.cdiv(N * HV * tiles, processors) * chunks * SCAN_US
    best = min(range(2, MOST_SEGMENTS + 1), key=estimate)
    return N * best if estimate(best) * GAIN < whole else 1
