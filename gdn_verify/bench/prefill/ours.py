"""This project's own prefill as a contender."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import gdn_verify
from gdn_verify.bench.contender import Contender, Launch, Missing, PrefillInputs, Results, Setting
from gdn_verify.bench.sizes import RECURRENCE
from gdn_verify.kernels.cuda import launch as launching


def contenders() -> Iterator[Contender | Missing]:
    """The recurrence in chunks, in the shape that is chosen by default."""
    yield _cuda()
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


def _cuda() -> Contender | Missing:
    if (reason := launching.missing("cuda")) is not None:
        return Missing("gdn-verify's CUDA kernels", reason)
    version = gdn_verify.__version__
    return Contender("cuda-chunk-delta", version, RECURRENCE, _cuda_chunk_delta, _refused, path="cuda-chunk-delta")


def _refused(setting: Setting) -> str | None:
    from gdn_verify.kernels.cuda.chunks import KEYS, VALUES

    K, V = setting.geometry.K, setting.geometry.V
    return None if K in KEYS and V in VALUES else f"K={K}, V={V}: it takes K of {KEYS} and V of {VALUES}"


def _cuda_chunk_delta(inputs: PrefillInputs) -> Launch:
    from gdn_verify.kernels.cuda.prefill import chunk_delta
    from gdn_verify.kernels.rows import Tables

    tables = Tables(inputs.query_start_loc, inputs.state_indices, inputs.has_initial_state)
    operands = (inputs.q, inputs.k, inputs.v, inputs.g, inputs.beta, inputs.pool, tables)
    return lambda: Results(chunk_delta(*operands, output=inputs.out))
