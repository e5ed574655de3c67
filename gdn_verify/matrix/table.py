"""The matrix as a terminal shows it: a line a path, then what its features are, then hand-overs, then what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdn_verify.cases.topics import TOPICS
from gdn_verify.matrix.cells import Aspect, Cell, Key, Matrix, Row, State, worst
from gdn_verify.verdict import ratio_words

STYLES = {State.DISAGREES: "red", State.KNOWN: "yellow", State.UNREACHED: "yellow", State.REFUSED: "dim"}
MARKS = {State.DISAGREES: "✗", State.KNOWN: "known", State.UNREACHED: "?", State.REFUSED: "–", State.MISSING: "missing"}


def show(matrix: Matrix, console: Console) -> None:
    """Print everything but the cases themselves."""
    if ran := matrix.ran:
        _under("Cases that agree, by kind", _paths(ran), console)
        _under(
            "Features that agree; ✗ disagrees, ~ is known, ? is not reached, others are refused",
            _features(ran),
            console,
        )
        if any(True for row in ran for _ in row.of(Aspect.PADDING)):
            _under("A padded row", _padding(ran), console)
        if names := producers_of(ran):
            title = "Hand-over, the worst ratio: a row goes on from the state that a column's prefill left"
            _under(title, _handover(ran, names), console)
            console.print("; ".join(f"{n + 1} {name}" for n, name in enumerate(names)), highlight=False)
    for row in matrix.rows:
        if row.missing:
            console.print(Text(f"missing: {row.path} on {row.host}: {row.missing}", style="yellow"), soft_wrap=True)
    for line in matrix.conflicts:
        console.print(Text(f"runs differ: {line}", style="yellow"), soft_wrap=True)
    for row, key, cell in matrix.disagreements():
        console.print(Text(told(row, key, cell), style="red"), soft_wrap=True)
    verdict = "nothing disagrees" if matrix.ok else "the matrix is red"
    console.print(Text(verdict, style="bold green" if matrix.ok else "bold red"))


def _under(title: str, table: Table, console: Console) -> None:
    console.print(Text(f"\n{title}", style="italic"))
    console.print(table)


def told(row: Row, key: Key, cell: Cell) -> str:
    """A disagreement in a line."""
    return f"{row.path} {row.version} on {row.host}: {key}: {cell.why.splitlines()[0] if cell.why else cell.state}"


def words(cell: Cell | None) -> str:
    """A cell in few letters: in how many cases it agrees, or that it does not."""
    if cell is None:
        return ""
    if cell.state is State.AGREES:
        return f"{cell.cases}{f' (✗ {cell.against})' if cell.against else ''}"
    if cell.state is State.DISAGREES:
        return f"✗ {cell.against or cell.cases}/{cell.cases}" if cell.cases else "✗"
    return MARKS[cell.state]


def _plain_table(columns: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in columns:
        table.add_column(name)
    return table


def _paths(rows: Sequence[Row]) -> Table:
    kinds = [topic.value for topic in TOPICS]
    columns = ("path", "span", "host", "version", *kinds, "worst ratio", "reach", "same bits", "rows' own bits")
    table = _plain_table(columns)
    for row in rows:
        of_kind = [styled(words(cell), cell) for cell in (row.cells.get(Key(Aspect.KIND, kind)) for kind in kinds)]
        facts = [summary(row, aspect) for aspect in (Aspect.DETERMINISM, Aspect.INVARIANCE)]
        table.add_row(
            row.path, row.span, row.host, row.version, *of_kind, ratio_words(row.ratio), f"{row.reach:.0%}", *facts
        )
    return table


def styled(text: str, cell: Cell | None) -> Text:
    """In the colour of what the cell says."""
    return Text(text, style=STYLES.get(cell.state, "") if cell else "")


def summary(row: Row, aspect: Aspect) -> Text:
    """A fact over all kinds in a word: yes, no, or of which kinds not."""
    cells = dict(row.of(aspect))
    if not cells:
        return Text("not asked", style="yellow")
    state = worst([cell.state for cell in cells.values()])
    other = [key.kind for key, cell in cells.items() if cell.state is not State.AGREES]
    if state is State.AGREES and not other:
        return Text("yes")
    word = {State.DISAGREES: "no", State.UNREACHED: "not reached"}.get(state, "not promised, no")
    return Text(f"{word}: {', '.join(other)}" if other else word, style=STYLES.get(state, ""))


def _features(rows: Sequence[Row]) -> Table:
    """Words of each group that agree, over all kinds, and what others there are."""
    groups = groups_of(rows)
    table = _plain_table(("path", "host", "features"))
    for row in rows:
        text = Text()
        for group in groups:
            found = feature_states(row, group)
            shown = [(word, state) for word, state in found.items() if state is not State.REFUSED]
            if shown:
                text.append(f"{group} ", style="bold")
                for word, state in shown:
                    mark = {State.DISAGREES: "✗", State.KNOWN: "~", State.UNREACHED: "?"}.get(state, "")
                    text.append(f"{mark}{word}", style=STYLES.get(state, ""))
                    text.append(", " if word != shown[-1][0] else "; ")
        table.add_row(row.path, row.host, text)
    return table


def groups_of(rows: Iterable[Row]) -> list[str]:
    """Groups of features, in the order in which the features stand."""
    from gdn_verify.matrix.features import every

    having = {key.name.partition(": ")[0] for row in rows for key, _ in row.of(Aspect.FEATURE)}
    return [group for group in dict.fromkeys(each.group for each in every()) if group in having]


def feature_states(row: Row, group: str) -> dict[str, State]:
    """The words of a group, each with the worst of its kinds."""
    from gdn_verify.matrix.features import every

    found: dict[str, State] = {}
    for each in every():
        cells = [cell.state for key, cell in row.of(Aspect.FEATURE) if key.name == each.name]
        if each.group == group and cells:
            found[each.word] = worst(cells)
    return found


def _padding(rows: Sequence[Row]) -> Table:
    table = _plain_table(("path", "host", "kind", "row of", "declared", "observed"))
    for row in rows:
        for key, cell in row.of(Aspect.PADDING):
            declared = "no pad" if cell.state is State.REFUSED else "a pad"
            observed = cell.why.removeprefix("not declared; ")
            table.add_row(row.path, row.host, key.kind, key.name, declared, styled(observed, cell))
    return table


def producers_of(rows: Iterable[Row]) -> list[str]:
    """The paths whose states were handed over."""
    return sorted({key.name for row in rows for key, _ in row.of(Aspect.HANDOVER)})


def _handover(rows: Sequence[Row], producers: Sequence[str]) -> Table:
    table = _plain_table(("consumer", "host", *(str(n + 1) for n in range(len(producers)))))
    for row in rows:
        cells = {key.name: cell for key, cell in row.of(Aspect.HANDOVER)}
        if cells:
            table.add_row(row.path, row.host, *(_ratio(cells.get(name)) for name in producers))
    return table


def _ratio(cell: Cell | None) -> Text:
    return styled(ratio_words(cell.ratio) if cell and cell.state is State.AGREES else words(cell), cell)
