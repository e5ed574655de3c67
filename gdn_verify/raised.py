"""Which stage was under way when a path raised: by the names of the functions on its stack, the deepest first.

Functions of kernels' packages are named after what they compute, as "causal_conv1d_update" or "l2norm_fwd". The
adapter's own frames tell nothing, nor do those of libraries below a kernel. A wrong table goes wrong in the stage that
reads it first.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType

from gdn_verify.cases.contract import Span, Stage
from gdn_verify.paths.base import Path

LIBRARIES = frozenset({"torch", "triton", "numpy", "numba", *sys.stdlib_module_names})
"""Packages whose functions are called by every stage."""
OURS = ("gdn_verify.emulator", "gdn_verify.hosts", "gdn_verify.runner", "gdn_verify.localise")
"""What runs a path, and stands in for a card."""
LAYER = re.compile(r"gated_delta_?net|gdn|linear_attn")
"""The layer as a whole, which is no stage."""
WORDS = {
    Stage.UNPACK: r"unpack\w*|qkvz\w*|fix_query_key_value_ordering",
    Stage.CONV: r"(short)?conv(1d|olution|olve)?",
    Stage.GATES: r"(?<!norm_)gates?|gating|softplus|l2_?norm|qk_(l2)?_?norm",
    Stage.DELTA: r"delta|delta_rule|recurren(t|ce)|scan|chunk\w*|advance|wy",
    Stage.NORM: r"gated_(rms_|layer_)?norm|(rms|layer)_?norm|norm_gated?",
}
"""Words of names, between underscores or dots, and the stage that they are of."""
TABLES = re.compile(
    r"\b(state_indices|read_indices|query_start_loc|cu_seqlens|has_initial_state|num_accepted_tokens|spec_rows)\b"
)
"""How messages name what a launch is told of its rows."""


def stage_of_error(error: BaseException, path: Path) -> str:
    """The stage that raised; "" where neither the span, nor the stack, nor a table in the message tells."""
    span = path.capabilities.span
    alone = [stage for stage in span if stage is not Stage.UNPACK]
    if len(alone) == 1 and Stage.UNPACK not in span:
        return str(alone[0])
    named = next((told for name in _names(error, path) if (told := stages_in(name, span))), ())
    if len(named) == 1:
        return str(named[0])
    first = next((stage for stage in (Stage.CONV, Stage.DELTA) if stage in span), None)
    return str(first) if first and not named and TABLES.search(str(error)) else ""


def stages_in(name: str, span: Span) -> tuple[Stage, ...]:
    """The stages of a span that a function's or module's name speaks of, "RMSNormGated.forward" as well."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    words = LAYER.sub("", snake.replace("gated_delta_rule", "delta_rule"))
    found = (stage for stage in span if re.search(rf"(?<![a-z0-9])({WORDS[stage]})(?![a-z0-9])", words))
    return tuple(found)


def _names(error: BaseException, path: Path) -> Iterator[str]:
    """Names on the stack below the adapter, the deepest first: of each frame the function's, then its file's."""
    own = {kind.__module__ for kind in type(path).__mro__}
    frames = [*_frames(error.__traceback__)]
    last = max((at for at, frame in enumerate(frames) if _module(frame) in own), default=-1)
    for frame in reversed(frames[last + 1 :]):
        if not _is_below(_module(frame), (*LIBRARIES, *OURS)):
            yield frame.f_code.co_qualname.replace(".<locals>", "")
            yield _module(frame).rpartition(".")[2]


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_below(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
