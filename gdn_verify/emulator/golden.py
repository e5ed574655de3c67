"""Golden vectors: what a GPU computes, bit by bit, and whether the interpreter computes the same.

    python -m gdn_verify.emulator.golden record FILE     # on a GPU
    python -m gdn_verify.emulator.golden measure FILE    # anywhere: adds the interpreter's distances
    python -m gdn_verify.emulator.golden compare FILE    # anywhere: exit status 1 if a vector is missed

An operation IEEE rounds exactly must match bit for bit. A hardware approximation must stay within the
units in the last place stated here; what was measured stands in the file beside it. Every NaN is one
NaN: payloads differ between devices.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gdn_verify.emulator.golden_inputs import Group, groups

GOLDEN = Path(__file__).with_name("golden_sm90.json")
RECORD = "python -m gdn_verify.emulator.golden record gdn_verify/emulator/golden_sm90.json"
INTERPRETER = "interpreter"

_DTYPES = {str(t).removeprefix("torch."): t for t in (torch.bfloat16, torch.float16, torch.float32)}
_DTYPES |= {"float64": torch.float64, "int32": torch.int32}
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_PER_LINE = 8


@dataclass(frozen=True)
class Distance:
    """How far the interpreter is from the GPU on one group, and the elements beyond the bound."""

    name: str
    worst: float
    bound: float
    missed: tuple[str, ...]

    def __str__(self) -> str:
        verdict = f"MISSED {len(self.missed)}: {'; '.join(self.missed[:4])}" if self.missed else "ok"
        return f"{self.name:24} worst {self.worst:10.2f}  bound {self.bound:6.1f}  {verdict}"


def record(path: Path, device: str) -> list[str]:
    """Evaluate every group on `device` and write the file; return the groups that did not run."""
    from gdn_verify.emulator import golden_kernels

    vectors, failures = {}, {}
    for group in groups():
        try:
            output = golden_kernels.evaluate(group.operation, list(group.inputs), group.dtype, device)
        except Exception as error:  # one unsupported operation must not cost the whole recording
            failures[group.name] = f"{type(error).__name__}: {error}"[:500]
        else:
            vectors[group.name] = _group_to_json(group, output)
    _write(path, {"recorded_on": _environment(device), "failed": failures, "vectors": vectors})
    return [f"{name}: {error}" for name, error in failures.items()]


def load(path: Path = GOLDEN) -> dict[str, Any]:
    """The recorded file. Raises FileNotFoundError, with the command that makes it, where it is missing."""
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is missing; on a GPU of compute capability 9.0 run: {RECORD}")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def compare(data: dict[str, Any]) -> list[Distance]:
    """Run every recorded group in the interpreter, which this installs (with TF32) in the process.

    Raises ValueError where the file does not hold exactly the groups declared in `golden_inputs`.
    """
    from gdn_verify.emulator import interpreter

    declared = {group.name: group for group in groups()}
    if declared.keys() != data["vectors"].keys():
        raise ValueError(f"groups not in both file and code: {sorted(declared.keys() ^ data['vectors'].keys())}")
    interpreter.install(tf32=True)
    from gdn_verify.emulator import golden_kernels

    distances = []
    for name, vectors in data["vectors"].items():
        group, expected = _group_from_json(declared[name], vectors)
        actual = golden_kernels.evaluate(group.operation, list(group.inputs), group.dtype, "cpu")
        distances.append(_distance(group, actual, expected))
    return distances


def measure(path: Path) -> list[Distance]:
    """Compare, and keep each group's worst distance in the file."""
    data = load(path)
    distances = compare(data)
    data["interpreter_distance"] = {d.name: round(d.worst, 3) for d in distances}
    _write(path, data)
    return distances


# -- distances -----------------------------------------------------------------------------------------


def ulps(actual: torch.Tensor, expected: torch.Tensor, flush: bool) -> torch.Tensor:
    """Distance in representable numbers, as float64; NaN is 0 from NaN and infinitely far from all else.

    With `flush`, subnormal results count as zero: GPU approximations may flush them.
    """
    nan = actual.isnan() ^ expected.isnan()
    steps = (_ordered(actual, flush) - _ordered(expected, flush)).abs().double()
    steps[actual.isnan() & expected.isnan()] = 0
    steps[nan] = float("inf")
    return steps


def _ordered(x: torch.Tensor, flush: bool) -> torch.Tensor:
    """Integers in the order of the numbers; -0.0 and 0.0 stay apart by one, unless flushed."""
    x = torch.where(x.abs() < torch.finfo(x.dtype).tiny, torch.zeros_like(x), x) if flush else x
    bits = x.view(_BITS[x.element_size()]).long()
    sign = 1 << (8 * x.element_size() - 1)
    return torch.where(bits < 0, -(bits + sign) - 1, bits)


def _distance(group: Group, actual: torch.Tensor, expected: torch.Tensor) -> Distance:
    if group.summed:
        a, b = (x.double().abs() for x in group.inputs)
        steps = (actual.double() - expected.double()).abs() / (2.0**-24 * (a @ b))
    else:
        steps = ulps(actual, expected, flush=group.bound > 0)
    beyond = (steps > group.bound).flatten().nonzero().flatten().tolist()
    missed = tuple(_describe(group, actual, expected, i) for i in beyond)
    return Distance(group.name, steps.max().item(), group.bound, missed)


def _describe(group: Group, actual: torch.Tensor, expected: torch.Tensor, index: int) -> str:
    got, want = (_hex(x.flatten()[index : index + 1])[0] for x in (actual, expected))
    if group.operation.startswith("dot_"):
        return f"element {index}: GPU {want}, interpreter {got}"
    arguments = ", ".join(f"{x.flatten()[index].item():.9g}" for x in group.inputs)
    return f"{group.operation}({arguments}): GPU {want}, interpreter {got}"


# -- the file ------------------------------------------------------------------------------------------


def _environment(device: str) -> dict[str, str]:
    on_gpu = device == "cuda"
    return {
        "gpu": torch.cuda.get_device_name() if on_gpu else INTERPRETER,
        "capability": "sm_{}{}".format(*torch.cuda.get_device_capability()) if on_gpu else INTERPRETER,
        "cuda": str(torch.version.cuda),
        "torch": torch.__version__,
        "triton": version("triton"),
        "python": platform.python_version(),
    }


def _group_to_json(group: Group, output: torch.Tensor) -> dict[str, Any]:
    return {
        "operation": group.operation,
        "shape": list(output.shape),
        "inputs": [_tensor_to_json(x) for x in group.inputs],
        "output": _tensor_to_json(output),
    }


def _group_from_json(declared: Group, data: dict[str, Any]) -> tuple[Group, torch.Tensor]:
    """The group with the inputs the GPU was given, whatever this torch's random numbers are."""
    inputs = tuple(_tensor_from_json(x, data["shape"]) for x in data["inputs"])
    expected = _tensor_from_json(data["output"], data["shape"])
    return replace(declared, operation=data["operation"], inputs=inputs, dtype=expected.dtype), expected


def _tensor_to_json(x: torch.Tensor) -> dict[str, Any]:
    words = _hex(x)
    lines = [" ".join(words[i : i + _PER_LINE]) for i in range(0, len(words), _PER_LINE)]
    return {"dtype": str(x.dtype).removeprefix("torch."), "bits": lines}


def _tensor_from_json(data: dict[str, Any], shape: Sequence[int]) -> torch.Tensor:
    dtype = _DTYPES[data["dtype"]]
    words = [int(word, 16) for line in data["bits"] for word in line.split()]
    size = 8 * dtype.itemsize
    signed = [w - (1 << size) if w >> (size - 1) else w for w in words]
    return torch.tensor(signed, dtype=_BITS[dtype.itemsize]).view(dtype).reshape(list(shape))


def _hex(x: torch.Tensor) -> list[str]:
    size = x.element_size()
    mask = (1 << 8 * size) - 1
    return [f"{value & mask:0{2 * size}x}" for value in x.flatten().view(_BITS[size]).tolist()]


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")


# -- command line --------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 1 if a group did not run or an element is beyond its bound."""
    parser = argparse.ArgumentParser(prog="python -m gdn_verify.emulator.golden", description=__doc__)
    parser.add_argument("command", choices=("record", "measure", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="record in the interpreter, to try the recorder")
    options = parser.parse_args(arguments)
    if options.command == "record":
        problems = record(options.file, _device(options.dry_run))
        lines = [*problems, f"wrote {options.file}"]
    else:
        distances = measure(options.file) if options.command == "measure" else compare(load(options.file))
        problems = [d.name for d in distances if d.missed]
        lines = [str(d) for d in distances]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if problems else 0


def _device(dry_run: bool) -> str:
    if dry_run:
        from gdn_verify.emulator import interpreter

        interpreter.install(tf32=True)
        return "cpu"
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise SystemExit("record compiles for the GPU; unset TRITON_INTERPRET")
    if not torch.cuda.is_available():
        raise SystemExit("record needs a CUDA device; --dry-run records in the interpreter instead")
    return "cuda"


if __name__ == "__main__":
    raise SystemExit(main())
