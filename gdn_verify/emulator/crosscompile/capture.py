"""Host wrappers run on CPU tensors, and each kernel they launch is kept instead of compiled and executed.

    with capture(CHIPS["gfx942"]) as launches:
        fused_recurrent_gated_delta_rule(q, k, v, ...)
    compile_launch(launches[0], CHIPS["gfx942"])

Triton itself binds the arguments and decides what to specialise (integers that are 1 or multiples of 16, aligned
pointers, None, tuples, descriptors), against a driver that claims to be the chip. An autotuned kernel is launched once
for each configuration that its own pruning leaves. What a wrapper decides by the chip is decided for this one, so
import libraries inside the block, and in a process of its own for each chip: many ask while they are imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from triton import knobs
from triton.compiler import make_backend
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

from gdn_verify.emulator.crosscompile.standin import replace, stand_in
from gdn_verify.emulator.crosscompile.targets import Chip
from gdn_verify.emulator.interpreter import EmulatorError


@dataclass(frozen=True)
class CapturedLaunch:
    """A launch as Triton would compile it: a kernel, its arguments' types, constants, attributes and options.

    `configuration` tells launches of one kernel apart in words: its constants, and the options that are not the
    chip's defaults.
    """

    kernel: Any
    signature: dict[str, Any]
    constexprs: dict[tuple[int, ...], Any]
    attributes: dict[tuple[int, ...], Any]
    options: dict[str, Any]
    configuration: str

    @property
    def name(self) -> str:
        """The kernel function's name."""
        return str(self.kernel.__name__)

    @property
    def module(self) -> str:
        """The module that defines the kernel."""
        return str(self.kernel.__module__)

    @property
    def key(self) -> str:
        """Equal for launches that compile to the same code."""
        where = f"{self.module}:{self.kernel.__qualname__}"
        return "\n".join(map(str, (where, self.signature, self.constexprs, self.attributes, self.options)))


@contextmanager
def capture(chip: Chip) -> Iterator[list[CapturedLaunch]]:
    """Collect the launches made inside the block, each once, in order; nothing is compiled or executed.

    Raises EmulatorError in Triton's interpreter mode, and on a Triton whose launch cannot be listened to.
    """
    if knobs.runtime.interpret:
        raise EmulatorError("kernels decorated for the interpreter cannot be captured; unset TRITON_INTERPRET")
    if not hasattr(JITFunction, "_do_compile"):
        raise EmulatorError("launches of this Triton cannot be captured; pip install 'triton>=3.6,<3.9'")
    recorder = _Recorder(chip)
    with stand_in(chip), ExitStack() as stack:
        replace(stack, JITFunction, "_do_compile", recorder.listener())
        replace(stack, Autotuner, "run", _run_every_configuration)
        yield recorder.launches


class _Recorder:
    def __init__(self, chip: Chip) -> None:
        self.launches: list[CapturedLaunch] = []
        self._keys: set[str] = set()
        self._defaults = make_backend(chip.target).parse_options({}).__dict__

    def listener(self) -> Any:
        """In the place of `JITFunction._do_compile`: it returns no kernel, so Triton launches none."""

        def keep(
            kernel: Any, key: Any, signature: Any, device: Any, constexprs: Any, options: Any, attrs: Any, warmup: Any
        ) -> None:
            words = _configuration(signature, constexprs, options.__dict__, self._defaults)
            self._add(CapturedLaunch(kernel, signature, constexprs, attrs, dict(options.__dict__), words))

        return keep

    def _add(self, launch: CapturedLaunch) -> None:
        if launch.key not in self._keys:
            self._keys.add(launch.key)
            self.launches.append(launch)


def _run_every_configuration(self: Any, *args: Any, **kwargs: Any) -> None:
    """In the place of `Autotuner.run`, which would time each configuration and remember one."""
    self.nargs = dict(zip(self.arg_names, args, strict=False))
    for config in self.prune_configs(kwargs):
        chosen = config.all_kwargs()
        if config.pre_hook:
            config.pre_hook({**self.nargs, **kwargs, **chosen})
        self.fn.run(*args, **kwargs, **chosen)


def _configuration(
    signature: dict[str, Any], constexprs: dict[tuple[int, ...], Any], options: dict[str, Any], defaults: dict[str, Any]
) -> str:
    names = list(signature)
    constants = {names[path[0]]: value for path, value in constexprs.items() if len(path) == 1 and value is not None}
    chosen = {name: value for name, value in options.items() if name == "num_warps" or value != defaults.get(name)}
    return " ".join(f"{name}={_word(value)}" for name, value in {**constants, **chosen}.items())


def _word(value: Any) -> str:
    return str(getattr(value, "__name__", value)).replace(" ", "")
