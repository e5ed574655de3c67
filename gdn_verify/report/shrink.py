"""The words for a case that was made simple: what each pass came to, and what the finding needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap

from rich.console import Console
from rich.table import Table

from gdn_verify.cases.strategies import Fed
from gdn_verify.explain import Ingredient, said
from gdn_verify.shrink import Shrunk


def size(fed: Fed) -> str:
    """How large a case is."""
    case, g = fed[0], fed[0].geometry
    rows, tokens = (sum(f(batch) for batch in case.batches) for f in (lambda b: len(b.rows), lambda b: b.tokens))
    counted = ", ".join(starmap(_counted, ((len(case.batches), "launch"), (rows, "row"), (tokens, "token"))))
    return f"{counted}, H={g.H} HV={g.HV} K={g.K} V={g.V}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('ch') else 's'}"


def show(found: Shrunk, kept: str, console: Console) -> None:
    """What each pass came to that had anything to offer."""
    table = Table(box=None, pad_edge=False)
    for heading in ("pass", "tried", "taken"):
        table.add_column(heading, justify="left" if heading == "pass" else "right")
    for name, count in found.counts.items():
        if count.tried:
            table.add_row(name, str(count.tried), str(count.taken))
    console.print(table)
    if found.flaky:
        console.print(f"the case fails in {found.rate:.0%} of its runs: each other was run until it failed, or often")
    console.print(f"left: {size(found.fed)}", markup=False, highlight=False)
    how = "nothing simpler shows it" if found.finished else "time was up: run it again on this file to go on"
    console.print(f"{kept} after {found.seconds:.0f} s; {how}", soft_wrap=True, markup=False, highlight=False)


def tell(ingredients: Sequence[Ingredient], console: Console) -> None:
    """What the finding needs, a line each, and what it does not, in one."""
    table = Table(box=None, pad_edge=False)
    for heading in ("needs", "in this case", "fails with"):
        table.add_column(heading)
    for each in ingredients:
        if each.needed:
            table.add_row(each.name, said(each.now), str(each))
    if table.row_count:
        console.print(table)
    if free := [each.name for each in ingredients if not each.needed]:
        console.print(f"whatever else: {', '.join(free)}", soft_wrap=True, markup=False, highlight=False)
