"""`triton.language.extra.libdevice` in numpy; stock Triton returns None from all of it on a CPU.

Values are computed in the operands' own type, to numpy's accuracy; the `fast_` variants are those of
the accurate functions, since hardware approximations differ between devices.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import interpreter as stock

from gdn_verify.emulator.builder import narrow, widen

FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "cbrt": np.cbrt,
    "ceil": np.ceil,
    "copysign": np.copysign,
    "cos": np.cos,
    "cosh": np.cosh,
    "div_rn": np.divide,
    "erf": lambda x: stock.np_erf_fp64(x).astype(x.dtype),
    "exp": np.exp,
    "exp10": lambda x: np.power(x.dtype.type(10), x),
    "exp2": np.exp2,
    "expm1": np.expm1,
    "fast_cosf": np.cos,
    "fast_dividef": np.divide,
    "fast_exp10f": lambda x: np.power(x.dtype.type(10), x),
    "fast_expf": np.exp,
    "fast_log10f": np.log10,
    "fast_log2f": np.log2,
    "fast_logf": np.log,
    "fast_powf": np.power,
    "fast_sinf": np.sin,
    "fast_tanf": np.tan,
    "fast_tanhf": np.tanh,
    "floor": np.floor,
    "fmod": np.fmod,
    "hypot": np.hypot,
    "isinf": np.isinf,
    "isnan": np.isnan,
    "log": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "log2": np.log2,
    "nearbyint": np.rint,
    "pow": np.power,
    "rint": np.rint,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
}


def install() -> None:
    """Replace every function of the libdevice module: by numpy's, or by one that raises."""
    for name, member in list(vars(libdevice).items()):
        if callable(member) and not name.startswith("_"):
            function = FUNCTIONS.get(name)
            setattr(libdevice, name, _elementwise(name, function) if function else _missing(name))


def _elementwise(name: str, function: Callable[..., np.ndarray]) -> Callable[..., Any]:
    predicate = name in ("isnan", "isinf")

    def call(*args: Any, _semantic: Any = None) -> Any:
        operands = _broadcast(args)
        output = function(*(widen(x.handle) for x in operands))
        dtype = tl.int1 if predicate else operands[0].dtype
        block = operands[0].type
        result_type = block.with_element_ty(dtype) if block.is_block() else dtype
        return tl.tensor(narrow(output, dtype), result_type)

    call.__name__ = name
    return call


def _broadcast(args: tuple[Any, ...]) -> list[Any]:
    semantic = stock.interpreter_semantic
    operands = [semantic.to_tensor(x) for x in args]
    if len(operands) == 2:
        operands = list(semantic.binary_op_type_checking_impl(*args))
    if not all(x.dtype.is_floating() for x in operands):
        raise TypeError(f"libdevice functions take floating-point tensors, got {[x.dtype for x in operands]}")
    return operands


def _missing(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"libdevice.{name} is not emulated; add it to gdn_verify/emulator/libdevice.py")

    call.__name__ = name
    return call
