"""The command line: `gdn-verify gate`, `check`, `sanitize`, `crosscompile`, `drift`, `invariance`, `paths`, …"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as File
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.text import Text

from gdn_verify import crosscompile as crosscompiling
from gdn_verify import drift as drifts
from gdn_verify import gate as gates
from gdn_verify import invariance as invariances
from gdn_verify import sanitize as sanitizers
from gdn_verify.autopsy_command import autopsies
from gdn_verify.bench.command import app as bench
from gdn_verify.bisect_command import bisecting
from gdn_verify.cases.codec import dumps
from gdn_verify.cases.topics import TOPICS, topic
from gdn_verify.catchers_command import catchers
from gdn_verify.checks.laws import NAMES as LAWS
from gdn_verify.compare_command import comparing
from gdn_verify.configurations import configurations
from gdn_verify.corpus import corpus, planned, proofs, ruled
from gdn_verify.e2e_command import e2e
from gdn_verify.emulator.crosscompile.targets import CHIPS
from gdn_verify.facts import Answer, Question, measure
from gdn_verify.hosts import DEFAULT, GPUS, HOSTS
from gdn_verify.hosts.pin import cards
from gdn_verify.hosts.sanitizer import TOOLS
from gdn_verify.ledger_command import ledger
from gdn_verify.localise_command import localising
from gdn_verify.matrix_command import matrix
from gdn_verify.mutants import METADATA, NAMES, planter_of
from gdn_verify.mutants_command import mutants
from gdn_verify.paths import Builder, registered
from gdn_verify.probe import probe
from gdn_verify.profiles import PROFILES, SANITIZE, Profile
from gdn_verify.replay_command import replay
from gdn_verify.report import drift as report_drift
from gdn_verify.report import invariance as report_invariance
from gdn_verify.report.crosscompile import show as show_crosscompilation
from gdn_verify.report.ledger import append, entry
from gdn_verify.report.tally import Report
from gdn_verify.report.terminal import wide
from gdn_verify.repro_command import reproducing
from gdn_verify.rules_command import rules
from gdn_verify.runs import RED, finish, judged, plain_console, progress
from gdn_verify.service import Job
from gdn_verify.shrink_command import shrinking
from gdn_verify.words import case_of, hosts_of, paths_of, refuse, subjects_of, words_of

app = typer.Typer(
    help="Differential testing and correctness verification for Gated DeltaNet kernels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(bench, name="bench")
app.command()(mutants)
app.command()(rules)
app.command("shrink")(shrinking)
app.command("localise")(localising)
app.command("repro")(reproducing)
app.command()(replay)
app.command("compare")(comparing)
app.command("bisect")(bisecting)
app.command("autopsy")(autopsies)
app.command()(catchers)
app.command()(ledger)
app.command()(matrix)
app.command()(e2e)

Json = Annotated[File | None, typer.Option("--json", help="Write the report to this file as JSON.", metavar="FILE")]
Hosts = Annotated[str, typer.Option(help="Hosts: cpu, interpreter, cuda, rocm; all by default.")]
Require = Annotated[str, typer.Option(help="Hosts on which every chosen path must run.")]
Workers = Annotated[int, typer.Option(help="Worker processes; 0 for one a core.", min=0)]
Verbose = Annotated[bool, typer.Option(help="Show every kind of failure.")]
Measured = Annotated[str, typer.Option(help="Paths to measure, separated by commas; all by default.")]
Laws = Annotated[str, typer.Option(help="Laws to hold launches to, separated by commas; all by default, or none.")]


@app.command()
def gate(
    profile: Annotated[
        str, typer.Option(help="How much to run: quick, gate, nightly; configurations for all tiles.")
    ] = "gate",
    paths: Annotated[str, typer.Option(help="Paths to judge, separated by commas; all by default.")] = "",
    kinds: Annotated[str, typer.Option(help="Kinds: decode, prefill, spec, mixed, trajectory; all by default.")] = "",
    hosts: Hosts = "",
    require: Require = "",
    seed: Annotated[
        int,
        typer.Option(
            help="Another set of cases than the profile's; 0 for the profile's. Seeds 100 apart share none.", min=0
        ),
    ] = 0,
    workers: Workers = 0,
    json_file: Json = None,
    verbose: Verbose = False,
    plant: Annotated[str, typer.Option(help="Plant a defect in a copy of each path, to see the gate go red.")] = "",
    laws: Laws = "",
    only_laws: Annotated[bool, typer.Option("--only-laws", help="Hold launches to laws, and to no oracle.")] = False,
    ledger_file: Annotated[
        File | None, typer.Option("--ledger", help="Add the run's cases to this ledger of healthy runs.")
    ] = None,
) -> None:
    """Judge every available path on every host over generated cases; exit 1 if any disagrees or crashes.

    An interrupt or SIGTERM ends it with a report of what ran, and exit 1.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = PROFILES[words_of(profile, PROFILES, "profile")[0]]
    chosen = replace(chosen, seed=seed or chosen.seed)
    wanted = hosts_of(hosts)
    if ledger_file and plant:
        raise refuse("--ledger counts accusations of right kernels, and --plant makes wrong ones; leave one out")
    defect = planter_of(words_of(plant, NAMES, "defect")[0]) if plant else None
    held = () if laws == "none" else words_of(laws, LAWS, "law")
    named = [path for path in subjects_of(paths) if not plant or isinstance(path, Builder) == (plant in METADATA)]
    about = [topic(kind) for kind in words_of(kinds, TOPICS, "kind")]
    absent: dict[tuple[str, str], str] = {}
    if chosen.sweep:
        layers = [path for path in named if not isinstance(path, Builder)]
        every, absent = configurations(layers, wanted, workers=workers or None)
        jobs = gates.plan_for(every, about, chosen, defect, held)
    else:
        # a ledger counts cases of a seed, and saved ones would be counted with each
        saved = () if ledger_file else planned(corpus(), named, wanted, about, defect)
        shown = () if ledger_file or defect else proofs(named, wanted, about)
        jobs = ruled([*shown, *saved, *gates.plan(named, wanted, about, chosen, defect, held)])
    jobs = [job for job in jobs if job.laws] if only_laws else jobs
    report = judged(jobs, chosen, workers, place=f" where {plant} can be planted" if plant else "")
    report.absent |= absent
    if ledger_file:
        report.finish()
        append(ledger_file, entry(report, " ".join(sys.argv[1:]), chosen.name, chosen.seed))
    finish(report, json_file, verbose, words_of(require, HOSTS, "host") if require else [])


@app.command()
def sanitize(
    tools: Annotated[str, typer.Option(help=f"Of {', '.join(TOOLS)}.")] = ",".join(TOOLS[:3]),
    paths: Annotated[str, typer.Option(help="Paths; by default all that declare kernels of their own.")] = "",
    kinds: Annotated[str, typer.Option(help="Kinds: decode, prefill, spec, mixed; all by default.")] = "",
    hosts: Annotated[str, typer.Option(help="Hosts; compute-sanitizer watches cuda.")] = "cuda",
    require: Require = "",
    seed: Annotated[int, typer.Option(help="Another set of cases than the usual; 0 for the usual.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Worker processes; 0 for one a GPU.", min=0)] = 0,
    json_file: Json = None,
    verbose: Verbose = False,
) -> None:
    """Run few cases of each path under compute-sanitizer; exit 1 if a tool tells of an error, or watched nothing."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = replace(SANITIZE, seed=seed or SANITIZE.seed)
    named = paths_of(paths) if paths else [path for path in paths_of("") if path.kernels]
    wanted = _watchable(hosts_of(hosts))
    about, under = map(topic, words_of(kinds, TOPICS, "kind")), words_of(tools, TOOLS, "tool")
    jobs = sanitizers.plan(named, wanted, about, under, chosen)
    report = judged(jobs, chosen, workers or cards())
    finish(report, json_file, verbose, words_of(require, HOSTS, "host") if require else [])


def _watchable(hosts: Sequence[str]) -> list[str]:
    for host in hosts:
        if host not in GPUS:
            checked = "there `gdn-verify gate` checks each access itself"
            advice = checked if host == "interpreter" else "use --hosts cuda"
            raise refuse(f"compute-sanitizer watches CUDA kernels, and the host {host!r} has none; {advice}")
    return list(hosts)


@app.command()
def check(
    file: Annotated[File, typer.Argument(help="A case file, as a failing gate prints it.", metavar="CASE.json")],
    path: Annotated[str, typer.Option(help="The path to run it on.")],
    host: Annotated[str, typer.Option(help="The host; by default the path's first that can run here.")] = "",
    json_file: Json = None,
    laws: Annotated[str, typer.Option(help="Hold the case to these laws, and to no oracle.")] = "",
    tool: Annotated[str, typer.Option("--sanitize", help="Run it under this tool of compute-sanitizer.")] = "",
) -> None:
    """Run one saved case on one path, in a worker of its own."""
    held = tuple(words_of(laws, LAWS, "law")) if laws else ()
    case_file = case_of(file)
    chosen = subjects_of(path)[0]
    if held and isinstance(chosen, Builder):
        raise refuse(f"{chosen.name} builds tables, and laws bind launches; leave --laws out")
    hosts = [host] if host else [name for name in chosen.hosts if name in DEFAULT]
    for name in hosts:
        words_of(name, chosen.hosts, f"host of {path}")
    if tool and held:
        raise refuse("--sanitize watches a case as it is launched, and holds it to no laws; leave --laws out")
    if tool:
        hosts = _watchable([host] if host else [name for name in hosts if name in GPUS] or hosts)
    case, watches = Job(chosen.name, "", case_file.case.kind, files=(dumps(case_file),)), 0 if held else 1
    case = replace(case, watches=watches, laws=held, tables=isinstance(chosen, Builder))
    if tool:
        case = sanitizers.watched(case, words_of(tool, TOOLS, "tool")[0], bool(chosen.kernels))
    jobs = [replace(case, host=name) for name in hosts]
    finish(_first_that_runs(jobs, SANITIZE if tool else PROFILES["gate"]), json_file, verbose=True)


def _first_that_runs(jobs: Sequence[Job], profile: Profile) -> Report:
    """The report of the first job whose path can run here; where none can, of why."""
    report = Report()
    reasons: dict[tuple[str, str], str] = {}
    for job in jobs:
        report = gates.run([job], profile, workers=1)
        if not report.absent:
            return report
        reasons |= report.absent
    report.absent |= reasons  # the remedy may be that of any host
    return report


@app.command()
def crosscompile(
    targets: Annotated[str, typer.Option(help="Chips, separated by commas; all seven by default.")] = "",
    paths: Annotated[
        str, typer.Option(help="Paths; kernels and cuda-kernels for this project's own, or all. Both by default.")
    ] = "",
    workers: Workers = 0,
    json_file: Json = None,
) -> None:
    """Compile every kernel for chips that are not here; exit 1 if one does not compile, fit, or spills."""
    chips = [CHIPS[name] for name in words_of(targets, CHIPS, "target")]
    own = [crosscompiling.KERNELS, crosscompiling.CUDA_KERNELS]
    # Of our own, what needs a package more than Triton is no fault where that is not installed and was not asked for.
    named = words_of(paths, [*own, *registered()], "path") if paths not in ("", "all") else own[:1]
    wanted = crosscompiling.subjects() if paths == "all" else named if paths else own
    with Progress(TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("capturing")

        def advance(row: crosscompiling.Row) -> None:
            bar.update(task, description=f"{row.chip} {row.kernel}")

        report = crosscompiling.run(chips, wanted, required=named, workers=workers or None, progress=advance)
    show_crosscompilation(report, wide())
    if json_file:
        json_file.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    if not report.ok:
        raise typer.Exit(RED)


@app.command()
def drift(
    paths: Measured = "",
    hosts: Hosts = "",
    steps: Annotated[int, typer.Option(help="Decode steps in all; minutes a path in the interpreter.", min=1)] = 4096,
    workers: Workers = 0,
    json_file: Json = None,
) -> None:
    """Measure how far outputs and states are from float64 after 1, 16, 256, … decode steps; a report, no verdict."""
    when = tuple(sorted({*(n for n in drifts.STEPS if n < steps), steps}))
    wanted = drifts.questions(paths_of(paths), hosts_of(hosts), when)
    found, absent = _facts(wanted, workers)
    report_drift.show(found, absent, wide())
    if json_file:
        json_file.write_text(json.dumps(report_drift.as_json(found, absent), indent=1) + "\n", encoding="utf-8")
    if not found:
        raise refuse("nothing was measured; see `gdn-verify paths`")


@app.command()
def invariance(
    paths: Measured = "",
    hosts: Hosts = "",
    cases: Annotated[int, typer.Option(help="Launches of each kind.", min=1)] = 30,
    law: Annotated[bool, typer.Option("--law", help="Ask it of all paths, not only of those that claim it.")] = False,
    workers: Workers = 0,
    json_file: Json = None,
) -> None:
    """Say whether a row's bits are its own, alone and among others; exit 1 where a path claims so and they are not."""
    wanted = invariances.questions(paths_of(paths), hosts_of(hosts), cases)
    found, absent = _facts(wanted, workers)
    report_invariance.show(found, absent, wide(), law=law)
    if json_file:
        json_file.write_text(json.dumps(report_invariance.as_json(found, absent), indent=1) + "\n", encoding="utf-8")
    if not found:
        raise refuse("nothing was measured; see `gdn-verify paths`")
    if any(fact.breaks(law) for fact in found):
        raise typer.Exit(RED)


def _facts(wanted: Sequence[Question[Answer]], workers: int) -> tuple[list[Answer], dict[tuple[str, str], str]]:
    with progress() as bar:
        total = bar.add_task("measuring", total=len(wanted))

        def advance(question: Question[Answer]) -> None:
            bar.update(total, advance=1, description=f"{question.path} on {question.host}")

        return measure(wanted, workers=workers or None, progress=advance)


@app.command()
def paths() -> None:
    """List every path, what it takes, and where it can run on this machine."""
    console = plain_console()
    for path in subjects_of(""):
        kinds = ", ".join(path.capabilities.kinds)
        span = "tables" if isinstance(path, Builder) else path.capabilities.span
        console.print(Text.assemble((path.name, "bold"), f"  {span}  ({kinds})"))
        for host in path.hosts:
            console.print(f"    {host:<12} {probe(host, path.name)}")


@app.command()
def doctor() -> None:
    """Say what this machine can run, why not the rest, and what to install."""
    console = plain_console()
    console.print(f"Python {sys.version.split()[0]} at {sys.executable}")
    runnable, known = 0, subjects_of("")
    for host in HOSTS:
        console.print(Text.assemble((host, "bold"), f": {probe(host)}"))
        for path in known:
            if host in path.hosts:
                seen = probe(host, path.name)
                runnable += seen.runs
                console.print(f"    {path.name:<24} {seen}")
    if not runnable:
        raise typer.Exit(RED)


def main() -> None:
    """Entry point of the command `gdn-verify`."""
    app()


if __name__ == "__main__":
    main()
