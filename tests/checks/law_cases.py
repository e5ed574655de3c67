"""Laws held against a path of the processor, in this process: healthy, or with a defect planted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Kind
from gdn_verify.cases.presentation import Presentation
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.sizes import Size
from gdn_verify.cases.strategies import cases
from gdn_verify.checks.laws.judge import LAWS, Court, LawResult
from gdn_verify.hosts import HOSTS
from gdn_verify.paths import Launch, Outputs, Path

Run = Callable[[Launch], Outputs]
FEW = Size(max_rows=5, max_row_tokens=6, max_tokens=16, max_value_heads=4, max_dim=16, max_slots=24)
"""Several rows, of little work."""


def drawn(path: Path, kind: Kind, count: int, seed: int, size: Size = FEW) -> list[tuple[Case, Presentation]]:
    """Cases of one kind, the same for a seed."""
    return draw_cases(cases(path.capabilities, path.conventions, kind, size=size), count, seed)


def court(case: Case, shown: Presentation, path: Path, plant: Callable[[Path], Run] | None = None) -> Court:
    """All laws of one case; `plant` makes a defective copy of the path, not of those beside it."""

    def run(other: Path) -> Run:
        return plant(other) if plant is not None and other is path else other.run

    return Court(case, shown, path, HOSTS["cpu"], run)


def results(
    path: Path, kinds: Iterable[Kind], count: int, seed: int = 0, plant: Callable[[Path], Run] | None = None
) -> Iterator[dict[str, LawResult]]:
    """What all laws come to, case by case."""
    for kind in kinds:
        for case, shown in drawn(path, kind, count, seed):
            held = court(case, shown, path, plant)
            yield {name: held.judge(law) for name, law in LAWS.items()}
