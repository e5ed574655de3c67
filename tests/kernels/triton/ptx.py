"""A launch's PTX, made in a process where Triton compiles for a chip that need not be there."""

from __future__ import annotations

import os
import re
import tempfile

from . import bodies
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
    text = compiled(kernel, family, problem)
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
