"""Contract: install() makes a process run kernels rightly, says why when it cannot, and records launches."""

import math
from collections.abc import Callable
from typing import Any

import emulated
import pytest
import torch

RunsThere = Callable[..., Any]
RunsPython = Callable[..., Any]

CANARY = """
from gdn_verify.emulator import interpreter
interpreter.canary()
"""
INSTALL = """
from gdn_verify.emulator import interpreter
interpreter.install({})
"""
PRETENDED_VERSION = """
import importlib.metadata as metadata
real = metadata.version
metadata.version = lambda name: "{}" if name == "triton" else real(name)
"""


# -- the canary ----------------------------------------------------------------------------------------


def test_canary_fails_on_the_stock_interpreter(python: RunsPython) -> None:
    """Both the store and the dot give it away."""
    result = python(CANARY, TRITON_INTERPRET="1")
    assert result.returncode == 1
    assert "bfloat16 stores are not rounded" in result.stderr
    assert "a bfloat16 dot of small integers is off by" in result.stderr


def test_canary_passes_with_the_overlay(python: RunsPython) -> None:
    """And no environment variable is needed, nor a second install() harmful."""
    result = python(INSTALL.format("") + INSTALL.format("") + CANARY)
    assert result.returncode == 0, result.stderr


# -- installation --------------------------------------------------------------------------------------


def test_triton_imported_before_is_refused(python: RunsPython) -> None:
    """Its own device functions are compiled ones by then."""
    result = python("import triton.language\n" + INSTALL.format(""))
    assert "EmulatorError: triton was imported before install()" in result.stderr


@pytest.mark.parametrize("version", ["3.5.1", "3.9.0", "4.0.0"])
def test_unsupported_version_is_refused(python: RunsPython, version: str) -> None:
    """The error names the version found and a way out."""
    result = python(PRETENDED_VERSION.format(version) + INSTALL.format(""))
    assert f"triton {version} is not supported" in result.stderr
    assert "pip install 'triton==3.7.1'" in result.stderr


def test_second_installation_must_agree_with_the_first(python: RunsPython) -> None:
    """The target cannot be changed under modules that have asked for it."""
    result = python(INSTALL.format("") + 'interpreter.install("cuda")')
    assert "EmulatorError: the interpreter is installed as" in result.stderr


def test_unknown_backend_names_the_known_ones(python: RunsPython) -> None:
    """hip and cuda."""
    assert "known backends: hip, cuda" in python(INSTALL.format("'rocm'")).stderr


def test_cuda_target_answers_torch(python: RunsPython) -> None:
    """Libraries ask torch for the architecture, and Triton for the target."""
    script = INSTALL.format("'cuda', 90") + (
        "import torch, triton\n"
        "assert torch.cuda.get_device_capability() == (9, 0)\n"
        "assert triton.runtime.driver.active.get_current_target().arch == 90\n"
    )
    result = python(script)
    assert result.returncode == 0, result.stderr


def test_importing_the_module_patches_nothing(python: RunsPython) -> None:
    """A user's process may import gdn_verify and compile for a GPU."""
    script = "import sys, os\nimport gdn_verify.emulator.interpreter\n"
    result = python(script + "assert 'triton' not in sys.modules and 'TRITON_INTERPRET' not in os.environ\n")
    assert result.returncode == 0, result.stderr


def test_launches_need_the_interpreter(python: RunsPython) -> None:
    """An empty list of launches would prove nothing."""
    result = python("from gdn_verify.emulator.interpreter import launches\nwith launches(): pass")
    assert "EmulatorError: launches() needs install() first" in result.stderr


def test_tf32_cuts_operands_when_asked(python: RunsPython) -> None:
    """To ten mantissa bits toward zero; and only float32 operands of a dot that allows TF32."""
    script = INSTALL.format("tf32=True") + (
        "import sys, torch\n"
        f"sys.path.insert(0, {str(emulated.__file__.rsplit('/', 1)[0])!r})\n"
        "import emulated\n"
        "a, eye, zero = torch.eye(16) * (1 + 2**-10 + 2**-11 + 2**-20), torch.eye(16), torch.zeros(16, 16)\n"
        "assert torch.equal(emulated.dot(a, eye, zero, 'tf32'), eye * (1 + 2**-10))\n"
        "assert torch.equal(emulated.dot(a, eye, zero, 'ieee'), a)\n"
    )
    result = python(script)
    assert result.returncode == 0, result.stderr


# -- launches and autotuning ---------------------------------------------------------------------------


def test_launches_are_recorded(interpreted: RunsThere) -> None:
    """By kernel name and three-dimensional grid."""
    assert interpreted(emulated.recorded, emulated.loops, 3, 2) == [("_loops", (1, 1, 1))]


def test_a_grid_may_put_other_tensors_in_the_place_of_arguments(interpreted: RunsThere) -> None:
    """It is handed the arguments themselves, as from a compiled launch."""
    assert interpreted(emulated.counted_grid) == [5.0, 5.0]


def test_autotuned_kernel_runs_its_first_configuration_once(interpreted: RunsThere) -> None:
    """Nothing is timed."""
    assert interpreted(emulated.tuned) == 1
    assert interpreted(emulated.recorded, emulated.tuned) == [("_tuned", (1, 1, 1))]


def test_configuration_can_be_chosen(python: RunsPython) -> None:
    """A sweep chooses each in turn."""
    script = INSTALL.format("choose_config=lambda kernel, count: count - 1") + (
        f"import sys; sys.path.insert(0, {str(emulated.__file__.rsplit('/', 1)[0])!r})\n"
        "import emulated\n"
        "assert emulated.tuned() == 2\n"
    )
    result = python(script)
    assert result.returncode == 0, result.stderr


# -- language ------------------------------------------------------------------------------------------


def test_loop_indices_are_tensors(interpreted: RunsThere) -> None:
    """range over arguments, constants, tl.range with hints, static_range, and downwards."""
    assert interpreted(emulated.loops, 5, 4) == 10 + 6 + (0 + 2 + 4) + 6 + 10


def test_loop_bounds_may_be_loaded(interpreted: RunsThere) -> None:
    """numpy refuses to make an index of an array with one element."""
    assert interpreted(emulated.loop_to_loaded_bound, 2, 7) == 5


def test_module_level_alias_of_a_builtin_works(interpreted: RunsThere) -> None:
    """exp = tl.exp."""
    assert interpreted(emulated.alias, torch.zeros(1)).item() == 1


def test_device_assert_raises(interpreted: RunsThere) -> None:
    """Stock Triton ignores it silently."""
    interpreted(emulated.device_assert, torch.ones(1))
    with pytest.raises(Exception, match="x must be positive"):
        interpreted(emulated.device_assert, -torch.ones(1))


@pytest.mark.parametrize("which", ["log1p", "expm1", "tanh", "fast_expf", "rsqrt", "pow"])
def test_libdevice_functions(interpreted: RunsThere, which: str) -> None:
    """Within two float32 steps of torch's."""
    x = torch.tensor([0.25, 1.0, 2.5, 1e-6])
    functions = {"fast_expf": torch.exp, "pow": lambda v: v**2}
    expected = functions.get(which, getattr(torch, which, None))(x)
    torch.testing.assert_close(interpreted(emulated.device_function, which, x), expected, rtol=2.5e-7, atol=0)


def test_unknown_libdevice_function_raises(interpreted: RunsThere) -> None:
    """Stock Triton returns None."""
    with pytest.raises(Exception, match=r"libdevice\.erfcinv is not emulated"):
        interpreted(emulated.device_function, "erfcinv", torch.ones(4))


def c_style(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "floordiv": torch.div(x, y, rounding_mode="trunc"),
        "mod": torch.fmod(x, y),
        "shift": (x >> 1) + x,
        "invert": ~x,
        "wrap": x * 65537 + y,
        "promote": (x.long() * 65537 + y) >> 3,
    }


@pytest.mark.parametrize("which", ["floordiv", "mod", "shift", "invert", "wrap", "promote"])
def test_integers_behave_as_in_c(interpreted: RunsThere, which: str) -> None:
    """Truncating division, wrapping multiplication, arithmetic shifts, promotion to int64."""
    x = torch.tensor([7, -7, 7, -7, 2**30, -(2**31), 2**31 - 1, 0], dtype=torch.int32)
    y = torch.tensor([2, 2, -2, -2, 3, 5, 7, 9], dtype=torch.int32)
    expected = c_style(x, y)[which]
    assert torch.equal(interpreted(emulated.integers, which, x, y, expected.dtype), expected)


def test_unsigned_invert_and_shift(interpreted: RunsThere) -> None:
    """A right shift does not turn its operand into a signed number."""
    x = torch.tensor([0, 1, 128, 255], dtype=torch.uint8)
    assert interpreted(emulated.integers, "invert", x, x, torch.uint8).tolist() == [255, 254, 127, 0]
    assert interpreted(emulated.integers, "shift", x, x, torch.uint8).tolist() == [0, 1, 192, 126]


def test_kernel_errors_name_kernel_and_program(interpreted: RunsThere) -> None:
    """A wrong kernel is found by its name."""
    with pytest.raises(Exception, match=r"_assert, program \(0, 0, 0\)"):
        interpreted(emulated.device_assert, torch.tensor([math.nan]))
