"""Triton kernels on CPU tensors, rounding as the hardware does.

    install()                      # in a worker process, before kernel modules are imported
    import fla.ops.gated_delta_rule
    with launches() as ran:
        ...
    assert ran[0].kernel == "fused_recurrent_gated_delta_rule_fwd_kernel"

Stock Triton's interpreter truncates where it should round to bfloat16 and multiplies bfloat16 bit
patterns as integers, without a warning. `canary` proves that this process does neither.

What still differs from a GPU, by design: the order of additions inside a sum or a dot; no contraction
of a·b + c into one rounding; exp, log and their like are numpy's, not the hardware's approximations.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdn_verify.emulator.driver import ConfigChoice
    from gdn_verify.emulator.launch import Launch

SUPPORTED = ((3, 6), (3, 8))
TARGETS: dict[str, str | int] = {"hip": "gfx942", "cuda": 90}

_installed: tuple[str, str | int, bool] | None = None


class EmulatorError(RuntimeError):
    """The interpreter cannot be set up, or does not compute what it must; the message says the way out."""


def install(
    backend: str = "hip",
    arch: str | int | None = None,
    *,
    tf32: bool = False,
    choose_config: "ConfigChoice | None" = None,
) -> None:
    """Make this process run Triton kernels on CPU tensors; for good, and only once.

    `backend` is "hip" (default, as its import needs nothing of torch.cuda) or "cuda", `arch` its
    architecture (gfx942, 90). With `tf32`, float32 operands of `tl.dot` are cut to TF32 where the kernel
    allows it (and tf32x3 stays exact); otherwise they are exact. `choose_config` picks an autotuned
    kernel's configuration by kernel name and number of configurations; the default is the first.

    Raises EmulatorError for an unsupported Triton, if Triton was imported before, or if this process
    was set up differently before.
    """
    global _installed
    if backend not in TARGETS:
        raise ValueError(f"backend={backend!r}; known backends: {', '.join(TARGETS)}")
    wanted = (backend, TARGETS[backend] if arch is None else arch, tf32)
    if _installed == wanted:
        return
    if _installed is not None:
        raise EmulatorError(f"the interpreter is installed as {_installed}, not {wanted}; use another process")
    _check_version()
    _enter_interpreter_mode()
    _patch(*wanted, choose_config)
    _installed = wanted


def is_installed() -> bool:
    """Whether `install` has run in this process."""
    return _installed is not None


@contextmanager
def launches() -> "Iterator[list[Launch]]":
    """Collect the kernels launched inside the block, in order.

    Raises EmulatorError where the interpreter is not installed: an empty list would prove nothing.
    """
    if not is_installed():
        raise EmulatorError("launches() needs install() first")
    from gdn_verify.emulator.launch import recorders

    ran: list[Launch] = []
    recorders.append(ran)
    try:
        yield ran
    finally:
        recorders[:] = [r for r in recorders if r is not ran]


def canary() -> None:
    """Run a bfloat16 dot and a bfloat16 store; raise EmulatorError, with the values, if either is wrong."""
    from gdn_verify.emulator import canaries

    findings = canaries.sing()
    if findings:
        raise EmulatorError("the Triton interpreter is wrong: " + "; ".join(findings))


def _check_version() -> None:
    low, high = (".".join(map(str, v)) for v in SUPPORTED)
    try:
        found = version("triton")
    except PackageNotFoundError:
        raise EmulatorError("triton is not installed; pip install 'gdn-verify[triton]'") from None
    if not SUPPORTED[0] <= tuple(int(x) for x in found.split(".")[:2]) <= SUPPORTED[1]:
        raise EmulatorError(
            f"triton {found} is not supported by the interpreter ({low} to {high} are); "
            "pip install 'triton==3.7.1' in the environment of this host"
        )


def _enter_interpreter_mode() -> None:
    # Triton's own device functions (tl.sum, tl.cdiv) are decorated while it is imported.
    if "triton" in sys.modules and not sys.modules["triton"].knobs.runtime.interpret:
        raise EmulatorError(
            "triton was imported before install() and compiles for a GPU; "
            "call install() first in a fresh process (no environment variable is needed)"
        )
    os.environ["TRITON_INTERPRET"] = "1"


def _patch(backend: str, arch: str | int, tf32: bool, choose_config: "ConfigChoice | None") -> None:
    from gdn_verify.emulator import driver, language, launch, libdevice

    driver.install(backend, arch, choose_config or driver.first_config)
    language.install(tf32)
    libdevice.install()
    launch.install()
