"""Systematic mutants: every operator at every place of the kernels' sources that computes something."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from gdn_verify.mutants.operators import OPERATORS, Source
from gdn_verify.mutants.sources import Kernels, folder

LEFT_OUT = {
    "triton/config.py": "chooses among configurations, each of which is right: `gate --profile configurations`",
    "triton/shape.py": "likewise",
    "triton/segment_choice.py": "likewise",
    "triton/contraction.py": "likewise: where a compiler may round a product and a sum once",
    "triton/target.py": "tells what chip there is",
    "triton/samples.py": "arguments for cross compilation, not launched",
    "triton/checks.py": "refuses what no case has: tests/kernels/triton/test_refusals.py",
    "triton/hopper_scan.py": "Gluon, which runs on a card alone",
    "triton/hopper_scan_kernel.py": "likewise",
    "triton/hopper_rows.py": "likewise",
    "fast.py": "chooses which kernels are there",
    "ops/__init__.py": "operators for torch.compile, which no path calls: tests/kernels/triton/test_ops.py",
    "ops/registration.py": "likewise",
    "ops/decode.py": "likewise",
    "ops/prefill.py": "likewise",
    "ops/cuda.py": "likewise: tests/kernels/cuda/test_reached.py",
    "cuda/": "launches what is written in C++, which has mutants of its own: `mutants --class cuda`",
    "prepare.py": "compiled preparation for the bench's peers, which no path calls: tests/kernels/test_prepare.py",
}
"""Files without mutants, or all of a folder, and why."""
CHOICES = (
    "default_shape", "default_segments", "hopper_takes", "precision", "may_contract",
    "kernels_missing",
)  # fmt: skip
"""Functions that choose among right ways to the same result."""
CARD_ALONE = ("hopper_scan",)
"""Functions of files above that others call."""
HINTS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "cache_modifier", "eviction_policy", "input_precision")
"""Arguments that change no result."""


@dataclass(frozen=True)
class Slip:
    """One mistake at one place: `after` for `before` in `file`, from character `start` on, in lines `first` to `last`.

    `name` is "file::function::operator::n", the n-th of its operator in that function: it outlives other changes.
    """

    name: str
    file: str
    function: str
    operator: str
    first: int
    last: int
    start: int
    before: str
    after: str

    plant = None
    """It is in the source, and nothing is planted in a path."""
    bug = ""

    def begin(self) -> None:
        """Have every import of a kernel from now on get the mistake. Raises SyntaxError."""
        compile(self.text(), self.file, "exec")
        Kernels({self.file: self.text()}).stay()

    def text(self) -> str:
        """The whole file with the mistake."""
        right = source_of(self.file)
        return right[: self.start] + self.after + right[self.start + len(self.before) :]


@cache
def source_of(file: str) -> str:
    """The text of a file of the kernels."""
    return (folder() / file).read_text()


def files() -> tuple[str, ...]:
    """The kernels' files that have mutants."""
    found = (str(file.relative_to(folder())) for file in folder().rglob("*.py"))
    return tuple(
        sorted(file for file in found if file not in LEFT_OUT and f"{file.partition('/')[0]}/" not in LEFT_OUT)
    )


def mutants(chosen: Iterable[str] = ()) -> tuple[Slip, ...]:
    """All mutants of these files, or of all of them, in the order of the text."""
    return tuple(mutant for file in tuple(chosen) or files() for mutant in _of_file(file))


def _of_file(file: str) -> Iterator[Slip]:
    text = source_of(file)
    lines = text.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.decode()))
    numbers: Counter[tuple[str, str]] = Counter()

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1][:column].decode())

    def source(node: ast.AST) -> str:
        begin = offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        return text[begin : offset(node.end_lineno, node.end_col_offset)]  # type: ignore[attr-defined]

    for function, node in _places(ast.parse(text)):
        for operator, after in _mistakes(node, source):
            numbers[function, operator] += 1
            name = f"{file}::{function}::{operator}::{numbers[function, operator]}"
            start = offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]
            last = node.end_lineno  # type: ignore[attr-defined]
            yield Slip(name, file, function, operator, node.lineno, last, start, source(node), after)  # type: ignore[attr-defined]


def _mistakes(node: ast.AST, source: Source) -> Iterator[tuple[str, str]]:
    """(operator, text) for a node, no text twice."""
    before: set[str] = {source(node)} if hasattr(node, "lineno") else set()
    for name, operator in OPERATORS.items():
        for after in operator(node, source):
            if after not in before:
                before.add(after)
                yield name, after


def _places(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """The nodes in which a mistake would be one of the computation, with the function that they are in."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not _only_refuses(node.name):
            yield from _in_scope(node, node.name)
        elif isinstance(node, ast.Assign):
            yield from _within(node.value, "")


def _in_scope(scope: ast.FunctionDef | ast.ClassDef, name: str) -> Iterator[tuple[str, ast.AST]]:
    for node in scope.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if not _only_refuses(node.name):
                yield from _in_scope(node, f"{name}.{node.name}")
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):  # a description
            yield from _within(node, name)


def _within(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)) or _refuses(node):
        return
    yield function, node
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.AnnAssign) and child is node.annotation:
            continue
        if isinstance(child, ast.keyword) and child.arg in HINTS:
            continue
        yield from _within(child, function)


def _refuses(node: ast.AST) -> bool:
    """Whether a statement only refuses input, which no case has, or tells the compiler what it may assume."""
    if isinstance(node, ast.If):
        *said, last = node.body  # what a message is made of, and the raise
        return (
            not node.orelse
            and all(isinstance(each, ast.Assign) or _refuses(each) for each in said)
            and (isinstance(last, ast.Raise) or _refuses(last))
        )
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and _only_refuses(ast.unparse(call.func).split(".")[-1])


def _only_refuses(name: str) -> bool:
    """Whether a function of this name only refuses input, chooses, tells the compiler something, or needs a card."""
    if name.lstrip("_") in (*CHOICES, *CARD_ALONE):
        return True
    return name.lstrip("_").startswith(("static_", "assume", "multiple_of", "check", "expect", "refuse", "post_init"))
