"""A launch's PTX, made in a process where Triton compiles for a chip that need not be there."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import asdict

from . import bodies
from .families import families
from .problems import Problem


def prepare() -> None:
    """Whatever the tests run under, no interpreter here."""
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp()


def contracted_sums(kernel: str, family: str, problem: Problem, always: bool = False) -> int:
    """How often a multiply-add adds a number straight from another lane, as a sum does whose product was contracted.

    `always` allows the compiler to, whatever the launch says.
    """
    from gdn_verify.kernels.triton import decode, spec

    if always:
        decode.may_contract = spec.may_contract = lambda *args: True
    return counted(compiled(kernel, family, problem))


def contracted_in_tables(kernel: str, problem: Problem) -> dict[str, int]:
    """The same for every configuration of Hopper's table."""
    from gdn_verify.kernels.triton.config import Sizes, configurations, spec_configurations
    from gdn_verify.kernels.triton.target import Target

    target, problem = Target("cuda", "90"), bodies.sized(kernel, problem)
    sizes = Sizes(problem.H, problem.HV, problem.K, problem.V, problem.state.itemsize)
    chosen = spec_configurations(target, 3, sizes) if kernel == "spec" else configurations(target, sizes)
    for config in chosen:
        families(problem)[config.name] = asdict(config)
    return {config.name: counted(compiled(kernel, config.name, problem)) for config in chosen}


def counted(text: str) -> int:
    """In PTX of a chip without packed float32 arithmetic: Hopper's."""
    shuffled = set(re.findall(r"shfl\.sync\.bfly\.b32\s+(%r\d+)", text))
    assert shuffled, "no sum over lanes is recognised"
    return sum(added in shuffled for added in re.findall(r"fma\.rn\.f32\s+%\w+, %\w+, %\w+, (%\w+);", text))


def compiled(kernel: str, family: str, problem: Problem) -> str:
    """PTX of the launch's last kernel, for Hopper."""
    from triton.runtime import driver

    from gdn_verify.emulator.crosscompile.capture import capture
    from gdn_verify.emulator.crosscompile.standin import StandInDriver
    from gdn_verify.emulator.crosscompile.targets import CHIPS

    chip = CHIPS["sm_90"]
    problem = bodies.sized(kernel, problem)
    with capture(chip) as launches:
        bodies.bound(kernel, problem, problem.buffers(), family)()
    last = launches[-1]
    driver.set_active(StandInDriver(chip))
    source = last.kernel.ASTSource(last.kernel, last.signature, last.constexprs, last.attributes)
    return last.kernel.compile(source, target=chip.target, options=last.options).asm["ptx"]
