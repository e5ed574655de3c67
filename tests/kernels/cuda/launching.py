"""The configurations that stand for all others, and one way to launch each kernel."""

from __future__ import annotations

from collections.abc import Sequence

from gdn_verify.kernels.cuda.config import Config
from gdn_verify.kernels.cuda.decode import fused_decode
from gdn_verify.kernels.cuda.spec import fused_spec_decode

from ..triton.accounts import assert_left
from ..triton.families import operands, options
from ..triton.problems import Buffers, Problem, mixed_up

# Small blocks: every thread is paid for. Splits that have no row at all, turns beyond V, threads without a row.
DECODE: dict[str, Config | None] = {
    "chosen": None,
    "head": Config(warps=1, cluster=False),
    "head, cluster": Config(warps=1, depth=1),
    "head, 4 splits": Config(splits=4, warps=1, lanes=4),
    "head, 4 splits, tickets": Config(splits=4, warps=1, cluster=False),
    "head, 8 splits": Config(splits=8, warps=2),
    "key head": Config(whole_key_head=True, warps=1, lanes=16, depth=2),
    "key head, 2 splits": Config(whole_key_head=True, splits=2, warps=1),
    "key head, 2 splits, tickets": Config(whole_key_head=True, splits=2, warps=2, cluster=False),
    "stages": Config(warps=1, lanes=16, stages=2),
    "stages, key head": Config(whole_key_head=True, splits=2, warps=1, stages=3),
}
SPEC: dict[str, Config | None] = {
    "chosen": None,
    "head": Config(warps=1, cluster=False),
    "head, cluster": Config(warps=2),
    "head, 4 splits": Config(splits=4, warps=1, lanes=4),
    "head, 2 splits, tickets": Config(splits=2, warps=1, cluster=False),
    "head, 8 splits": Config(splits=8, warps=1),
}
PLAIN, JOINED, TICKETS, STAGED = "key head", "head, 4 splits", "head, 4 splits, tickets", "stages, key head"
"""One configuration of each sort, for claims that do not depend on it."""


def families(problem: Problem) -> dict[str, Config | None]:
    """The configurations of the kernel for this problem."""
    return DECODE if problem.width is None else SPEC


def launch(problem: Problem, on: Buffers, family: str = "chosen") -> None:
    """`fused_decode`, or `fused_spec_decode` where the problem has a width."""
    config = families(problem)[family]
    if problem.width is None:
        fused_decode(
            *operands(problem, on), query_start_loc=on.query_start_loc, config=config, **options(problem, on)
        )  # fmt: skip
        return
    fused_spec_decode(
        *operands(problem, on), on.query_start_loc, on.tables.num_accepted_tokens, spec_rows=on.tables.spec_rows,
        config=config, **options(problem, on),
    )  # fmt: skip


def check(problem: Problem, family: str = "chosen") -> None:
    """One launch, every bit of it accounted for."""
    on = problem.buffers()
    before = on.copy()
    launch(problem, on, family)
    assert_left(problem, before, on)


def check_mixed_up(problems: Sequence[Problem], among: Sequence[str], launches: int = 40) -> None:
    """So many launches with every knob turned at random; problems and configurations go round."""
    for seed in range(launches):
        problem, family = mixed_up(problems[seed % len(problems)], seed), among[seed % len(among)]
        try:
            check(problem, family)
        except AssertionError as error:
            raise AssertionError(f"{family!r}, {problem}") from error
