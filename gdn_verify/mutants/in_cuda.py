"""Systematic mutants of the kernels in CUDA C++: small mistakes by the words of a text whose layout is known.

The sources are written in one style (spaces around what computes, none in templates; a statement a line), so that no
parser is needed. What does not compile is stillborn. They are tried where the sources are emulated: what
`machine.cuh` says to a card is not among them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources

from gdn_verify.service import Job

HOST = "emulated-cuda"
FOLDER = "cuda/source"
BY_FILE = {
    "decode.cu": ("cuda-decode", "cuda-decode-null", "cuda-decode-o"),
    "spec.cu": ("cuda-spec", "cuda-spec-null"),
    "chunk_delta.cu": ("cuda-chunk-delta", "cuda-chunk-delta-null"),
}
"""Files that are kernels, and the paths that run them."""
PATHS = tuple(path for paths in BY_FILE.values() for path in paths)
LEFT_OUT = ("machine.cuh",)
"""What is not compiled where the sources are emulated."""
COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
SIGNS = {"+": "-", "-": "+"}
DIVISIONS = {"/": "%", "%": "/"}
JOINS = {"&&": "||", "||": "&&"}

Replace = Callable[[re.Match[str]], str]


def _other(words: dict[str, str]) -> tuple[re.Pattern[str], Replace]:
    return re.compile(f"(?<= )({'|'.join(map(re.escape, words))})(?= )"), lambda found: words[found[1]]


OPERATORS: dict[str, tuple[re.Pattern[str], Replace]] = {
    "comparison": _other(COMPARISONS),
    "sign": _other(SIGNS),
    "head_map": _other(DIVISIONS),
    "mask": _other(JOINS),
    "factor": (re.compile(r"(?<=[\w)\]]) \* [\w.]+(?![\w.(\[<])"), lambda found: ""),
    "integer": (re.compile(r"(?<![\w.])\d+(?![\w.])"), lambda found: str(int(found[0]) + 1)),
    "constant": (re.compile(r"(?<![\w.])\d+\.\d+f\b"), lambda found: "2.0f" if float(found[0][:-1]) else "1.0f"),
    "guard": (re.compile(r"(?<=\bif \()[^()]*(?:\([^()]*\)[^()]*)*(?=\))"), lambda found: "true"),
    "missing": (re.compile(r"^ +(?!return\b)[\w.:]+(?:<[^;]*>)?\([^;{}]*\);$", re.MULTILINE), lambda found: ";"),
    "assignment": (re.compile(r"^ +[\w.\[\] *]*[\w\]] [-+*/]?= [^;]+;$", re.MULTILINE), lambda found: ";"),
}
"""Each with what it is made of, and what stands there instead."""
_DECLARES = re.compile(
    r" *(?:const|constexpr|using|template|static_assert|extern|#|struct|float|int|int64|bool|T[A-Z])"
)
_FUNCTION = re.compile(r"^(?:INLINE [^(\n]*?(\w+)\(|KERNEL\((\w+)\))", re.MULTILINE)
_SILENT = re.compile(r"//[^\n]*|^\s*(?:#|static_assert)[^\n]*|\"[^\"\n]*\"", re.MULTILINE)


@dataclass(frozen=True)
class Miswritten:
    """One mistake at one place of a source in C++: `after` for `before` in `file`, from character `start` on.

    `name` is "cuda/source/file::function::operator::n", as of a `Slip`.
    """

    name: str
    file: str
    operator: str
    first: int
    start: int
    before: str
    after: str

    plant = None
    bug = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Those that compile the file: a kernel's own, or of the kernels that include it; all where none does."""
        line = f'#include "{self.file}"\n'
        kernels = [kernel for kernel in BY_FILE if kernel == self.file or line in source_of(kernel)]
        return tuple(path for kernel in kernels for path in BY_FILE[kernel]) or PATHS

    def begin(self) -> None:
        """Have every kernel that is compiled from now on in this process get the mistake."""
        from gdn_verify.kernels.cuda import plans, sources

        reading = sources.read
        sources.read = lambda name: self.text() if name == f"source/{self.file}" else reading(name)
        sources.whole.cache_clear()
        plans.plan_of.cache_clear()

    def text(self) -> str:
        """The whole file with the mistake."""
        right = source_of(self.file)
        return right[: self.start] + self.after + right[self.start + len(self.before) :]

    def jobs(self, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """Those of its paths, all of whose cases come by the file."""
        return tuple(job for job in jobs if job.path in self.paths)

    def comes_by(self, job: Job) -> bool:
        """Whether cases of one of these jobs are tried first."""
        return not job.laws


@cache
def source_of(file: str) -> str:
    """The text of a source."""
    return resources("gdn_verify.kernels.cuda").joinpath(f"source/{file}").read_text()


def files() -> tuple[str, ...]:
    """Sources that have mutants."""
    found = (item.name for item in resources("gdn_verify.kernels.cuda").joinpath("source").iterdir())
    return tuple(sorted(name for name in found if name not in LEFT_OUT))


def miswritten(chosen: Iterable[str] = ()) -> tuple[Miswritten, ...]:
    """All mutants of these sources, or of all, in the order of the text."""
    return tuple(mutant for file in tuple(chosen) or files() for mutant in _of_file(file))


def _of_file(file: str) -> Iterator[Miswritten]:
    text, numbers = source_of(file), Counter[tuple[str, str]]()
    code = _SILENT.sub(lambda found: " " * len(found[0]), text)  # every character where it was
    begins = [(found.start(), found[1] or found[2]) for found in _FUNCTION.finditer(code)]
    for start, operator, before, after in _places(code):
        function = next((name for begin, name in reversed(begins) if begin <= start), "")
        numbers[function, operator] += 1
        name = f"{FOLDER}/{file}::{function}::{operator}::{numbers[function, operator]}"
        yield Miswritten(name, file, operator, 1 + text.count("\n", 0, start), start, before, after)


def _places(code: str) -> Iterator[tuple[int, str, str, str]]:
    found = (
        (match.start(), operator, match[0], replace(match))
        for operator, (pattern, replace) in OPERATORS.items()
        for match in pattern.finditer(code)
        if not (operator in ("missing", "assignment") and _DECLARES.match(match[0]))
    )
    yield from sorted(found)
