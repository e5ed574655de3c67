"""This project's own prefill as a contender."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import gdn_verify
from gdn_verify.bench.contender import Contender, Launch, Missing, PrefillInputs, Results
from gdn_verify.bench.sizes import RECURRENCE


def contenders() -> Iterator[Contender | Missing]:
    """The recurrence in chunks, in the shape that is chosen by default."""
    if find_spec("triton"):
        yield Contender("chunk-delta", gdn_verify.__version__, RECURRENCE, _chunk_delta)
    else:
        yield Missing("gdn-verify", "triton is not installed", "pip install 'gdn-verify[interpreter]'")


def _chunk_delta(inputs: PrefillInputs) -> Launch:
    from gdn_verify.kernels.rows import Tables
    from gdn_verify.kernels.triton.chunk import chunk_delta

    tables = Tables(inputs.query_start_loc, inputs.state_indices, inputs.has_initial_state)
    operands = (inputs.q, inputs.k, inputs.v, inputs.g, inputs.beta, inputs.pool, tables)
    return lambda: Results(chunk_delta(*operands, output=inputs.out))
