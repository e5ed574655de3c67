"""The report as a terminal shows it: a table, then each failure with the case that shows it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdn_verify.checks.laws import NAMES as LAWS
from gdn_verify.hosts import label
from gdn_verify.report import laws
from gdn_verify.report.tally import STANDING, Failure, Report, Row
from gdn_verify.verdict import SANITIZERS, Check, ratio_words

_SHOWN = 5
_COUNTS = ("agrees", "disagrees", "refused", "crashed", "vacuous")
"""Columns of counts; what is missing is listed below the table with its reason, not counted in it. `known` is a column
where anything is."""


def show(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Print the table, what could not run and why, and the smallest case of each kind of failure."""
    console.print(_table(report.rows))
    for (path, host), reason in report.absent.items():
        console.print(Text(f"missing: {path} on {host}: {reason}", style="yellow"))
    for (path, host, kind), reason in report.refusals.items():
        console.print(Text(f"refused: {path} on {host}, {kind}: {reason}", style="yellow"))
    for (path, host, rule), count in report.known.items():
        console.print(Text(f"known: {path} on {host}: {rule}, in {count} cases", style="yellow"))
    if held := report.laws():
        console.print(laws.table(held))
        for line in laws.refusals(held):
            console.print(Text(line, style="yellow"))
    groups = grouped(report.failures)
    for failure, count in groups if verbose else groups[:_SHOWN]:
        _show_failure(failure, count, console)
    if len(groups) > _SHOWN and not verbose:
        console.print(f"… and {len(groups) - _SHOWN} more kinds of failure (--verbose, or --json, shows all)")
    for text in report.broken:
        console.print(Text(text, style="red"), soft_wrap=True)
    console.print(Text("the gate is green" if report.ok else "the gate is red", style=_verdict_style(report)))


def _verdict_style(report: Report) -> str:
    return "bold green" if report.ok else "bold red"


def _table(rows: Iterable[Row]) -> Table:
    rows = [row for row in rows if not row.missing]
    drifts = any(row.worst_drift for row in rows)
    counts = (*_COUNTS, *(["known"] if any(row.known for row in rows) else []))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in ("path", "host", "version", "kind", "check"):
        table.add_column(name, no_wrap=True)
    for name in ("cases", *counts, "reach", "worst ratio", *(["drift"] if drifts else []), "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, counts, drifts), style="red" if row.failed else "")
    return table


def _cells(row: Row, counted: Iterable[str], drifts: bool) -> tuple[str, ...]:
    counts = (str(getattr(row, name) or "·") for name in counted)
    values, timed = row.check == "values", row.check in (*STANDING, Check.LAWS)
    ratio = ratio_words(row.worst_noise_ratio) if timed and row.agrees and row.check != "tables" else ""
    drift = f"{row.worst_drift:.1e}" if values and row.worst_drift else ""
    seconds = f"{row.seconds:.1f}" if timed else ""
    words = (row.path, label(row.host), row.version, row.kind, row.check, str(row.cases))
    share = f"{row.reach:.0%}" if row.check in ("values", "tables") else ""
    return (*words, *counts, share, ratio, *([drift] if drifts else []), seconds)


def grouped(failures: Iterable[Failure]) -> list[tuple[Failure, int]]:
    """One failure of each path, host, check and kind of finding, the one with the smallest case, and how many."""
    groups: dict[tuple[str, ...], list[Failure]] = {}
    for failure in failures:
        groups.setdefault(kind_of(failure), []).append(failure)
    return [(min(group, key=lambda f: len(f.file)), len(group)) for group in groups.values()]


def kind_of(failure: Failure) -> tuple[str, ...]:
    """What failures have in common that are shown once."""
    return failure.path, failure.host, failure.finding.check, failure.finding.kind


def describe(failure: Failure, count: int = 1) -> str:
    """A failure in words: the finding, the case to save, the command that runs it again."""
    head = f"{failure.path} on {label(failure.host)}, {failure.kind}: {failure.finding}"
    more = f"\n({count} such findings; this is the smallest case)" if count > 1 else ""
    if not failure.file:
        return head + more
    law = laws.named(failure.finding.kind, LAWS) if failure.finding.check is Check.LAWS else ""
    tool = failure.finding.check if failure.finding.check in SANITIZERS else ""
    options = f"{law and f' --laws {law}'}{tool and f' --sanitize {tool}'}"
    command = f"gdn-verify check CASE.json --path {failure.path} --host {failure.host}{options}"
    return f"{head}{more}\nSave as CASE.json and run `{command}`:\n{failure.file}"


def _show_failure(failure: Failure, count: int, console: Console) -> None:
    console.print()
    console.print(Text(describe(failure, count)), highlight=False, soft_wrap=True)
