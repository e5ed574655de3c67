"""What did NVIDIA's compute-sanitizer print about the kernels of a case? Text to findings; nothing is run here.

A worker marks in its output where a case begins and ends, and where the path's own code does. The tool prints its
reports there too, each a line that says what is wrong and lines, set in, that say where:

    ========= Invalid __global__ write of size 4 bytes
    =========     at a_kernel+0x1a0 in a_file.py:12
    =========     by thread (64,0,0) in block (0,0,0)
    =========     Access to 0x7f5c00000100 is out of bounds

A report that is not understood is a finding like any other. None is a race that is Triton's own, between lines of a
specialised kernel that the worker has named (`hosts.dispatch`): a barrier lies between, which the tool overlooks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from gdn_verify.verdict import Check, Finding


class Mark(StrEnum):
    """Lines of a worker: what is printed after one belongs to what it names."""

    BEGUN = "gdn-verify: a case begins"
    ENTERED = "gdn-verify: the path's own code begins"
    LEFT = "gdn-verify: the path's own code has ended"
    ENDED = "gdn-verify: the case has ended"
    DISPATCH = "gdn-verify: Triton tells warps what to run: "


@dataclass(frozen=True)
class Report:
    """One error as a tool printed it: in which kernel and at which line, or offset, and its other words.

    `places` are those of a race's accesses, "" of one that was not understood. `by_torch` tells that the kernel is one
    of torch's; `launched` that the path's own code was running.
    """

    what: str
    kernel: str
    place: str
    words: str
    places: frozenset[str]
    by_torch: bool
    launched: bool


@dataclass(frozen=True)
class Heard:
    """What a stretch of output holds: findings of the case in it, those outside any, and how many reports."""

    case: tuple[Finding, ...] = ()
    outside: tuple[Finding, ...] = ()
    reports: int = 0


def heard(text: str, check: Check) -> Heard:
    """The findings of one case's output and of what stands before it; errors of one kind and place are one finding."""
    before, _, during = text.partition(Mark.BEGUN)
    outside, inside, dispatches = list(_reports(before)), list(_reports(during)), _dispatches(text)
    return Heard(
        case=tuple(_findings(inside, check, dispatches)),
        outside=tuple(_findings(outside, check, dispatches)),
        reports=len(outside) + len(inside),
    )


def lacking(text: str, reports: int) -> str | None:
    """Why the end of a worker's output leaves open what the tool saw, after so many reports; None where it does not."""
    summary, silent = _SUMMARY.search(text), _SILENT.search(text)
    if summary is None:
        return "it ended without a summary, and may have seen more than it told"
    if silent:
        return f"it fell silent: {silent[0]}"
    counted = int(summary["errors"].replace(",", ""))
    return f"it counts {counted} errors and described none" if counted and not reports else None


_LINE = re.compile(r"(?<!=)={8,9}(?: (?P<words>.*))?$")  # behind whatever the worker left without a newline
_SUMMARY = re.compile(r"^={8,9} (?:ERROR|RACECHECK) SUMMARY: (?P<errors>[\d,]+)", re.MULTILINE)
_SILENT = re.compile(r"[\d,]+ errors? (?:was|were) not printed")
# Headings, sums, and ends that the gate knows better.
_NOT_REPORTS = re.compile(
    rf"COMPUTE-SANITIZER|\w+ SUMMARY: |{_SILENT.pattern}|Error: process didn't terminate successfully"
)
_SEVERITY = re.compile(r"(?P<severity>Error|Warning): ")
_RACE = "Race reported between "
# `kernel+0x1a0 in file.py:12`; before 2023.3 `0x1a0 in /a/file.py:12:kernel` or `0x1a0 in kernel(int)`.
_OFFSET_LAST = re.compile(r"at (?P<function>.+?)[+:](?P<offset>0x[\da-f]+)(?: in (?P<line>\S+:\d+))?(?: \[.*\])?$")
_OFFSET_FIRST = re.compile(r"at (?P<offset>0x[\da-f]+)(?: in (?:(?P<line>\S+:\d+):)?(?P<function>.+))?$")
_FRAMES = ("Saved host backtrace", "Host Frame:", "Device Frame:", "in ")


def _reports(text: str) -> Iterator[Report]:
    launched = in_launch = False
    block: list[str] = []
    for line in text.splitlines():
        if line in (Mark.ENTERED, Mark.LEFT):
            launched = line == Mark.ENTERED
        if (match := _LINE.search(line)) is None:
            continue  # a mark or a word of the worker's, which may fall between two lines of a report
        words = match["words"] or ""
        if words.startswith(" "):
            block += [words.strip()] if block else []
            continue
        yield from _report(block, in_launch)
        block = [words] if words and not _NOT_REPORTS.match(words) else []
        in_launch = launched
    yield from _report(block, in_launch)


def _report(block: list[str], launched: bool) -> Iterator[Report]:
    if not block:
        return
    severity = _SEVERITY.match(block[0])
    title = block[0][severity.end() :] if severity else block[0]
    sites = [title.removeprefix(_RACE), *block[1:]]
    found = next((site for site in map(_site, sites) if site), None)
    function, place = found or ("", "")
    frames = [site for line in block if line.startswith("Device Frame:") and (site := _site(line))]
    kernel = frames[-1][0] if frames else function  # the outermost frame; a function that it calls has the error
    others = [line for line in block[1:] if not line.startswith(("at ", *_FRAMES))]
    what = f"race ({severity['severity'].lower()})" if severity and _RACE in title else _kind(title)
    accesses = [sites[0], *(line for line in sites if line.startswith("and "))]
    places = frozenset((_site(line) or ("", ""))[1] for line in accesses)
    yield Report(what, _short(kernel), place, "; ".join([title, *others]), places, _is_torchs(kernel), launched)


def _kind(title: str) -> str:
    """What errors of other sizes and at other addresses have in common."""
    bare = re.sub(r" (?:of size|at host access to) .*| detected at __shared__ .*", "", title)
    return bare[:1].lower() + bare[1:100]


def _site(line: str) -> tuple[str, str] | None:
    """The function that a line names, and its line of source or its offset; None where it names none."""
    where = re.sub(r"^(?:and )?(?:Read|Write) access |^Device Frame:\s*", "", line)
    where = where if where.startswith("at ") else f"at {where}" if line.startswith("Device") else where
    match = _OFFSET_FIRST.match(where) or _OFFSET_LAST.match(where)
    if match is None:
        return None
    line_of_source = (match["line"] or "").rpartition("/")[2]
    return match["function"] or "", line_of_source or f"+{match['offset']}"


def _short(function: str) -> str:
    """A function's name without its type, templates and parameters."""
    return re.split(r"[<(]", function.removeprefix("void ").replace("<unnamed>::", ""))[0].strip()


def _is_torchs(function: str) -> bool:
    return re.search(r"\bat::|at_cuda_detail", function) is not None


def _is_the_suites(report: Report) -> bool:
    """Whether the suite itself read what a path left unwritten: padding of a result, which it then drops."""
    read = "ninitialized" in report.words and (report.by_torch or report.what.startswith("host API"))
    return read and not report.launched


Dispatches = set[tuple[str, str, frozenset[str]]]
"""Of specialised kernels: the name, the place where it begins, and all places of Triton's dispatch in it."""


def _dispatches(text: str) -> Dispatches:
    named = [line.removeprefix(Mark.DISPATCH).split() for line in text.splitlines() if line.startswith(Mark.DISPATCH)]
    return {(kernel, first, frozenset((first, *others))) for kernel, first, *others in named}


def _is_tritons(report: Report, dispatches: Dispatches) -> bool:
    """Whether warps that wait for work are said to race with those that tell them; no line of an author's is in it."""
    return report.what.startswith("race ") and any(
        report.kernel == kernel and first in report.places and report.places <= places
        for kernel, first, places in dispatches
    )


def _findings(reports: Iterable[Report], check: Check, dispatches: Dispatches) -> Iterator[Finding]:
    groups: dict[tuple[str, str, str], list[Report]] = {}
    for report in reports:
        if not _is_the_suites(report) and not _is_tritons(report, dispatches):
            groups.setdefault((report.what, report.kernel, report.place), []).append(report)
    for (what, kernel, place), alike in groups.items():
        where = f"{kernel} at {place}: " if kernel else ""
        more = f" ({len(alike)} such reports)" if len(alike) > 1 else ""
        yield Finding(check, f"{what} in {kernel}" if kernel else what, f"{where}{alike[0].words}{more}")
