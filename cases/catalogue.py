"""The catalogue of bugs that shipped elsewhere: a file each in `cases/bugs`, and the defects here that are its like.

A file tells what was wrong, what shows it and who should see it. A bug that can be expressed in this project's own code
has *mutants*: an edit of a kernel's source, or a function that plants. To add a bug is to add its file.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from gdn_verify.cases.contract import WRITE_BACK, Stage
from gdn_verify.cases.topics import TOPICS

TIERS = {
    "K": "in a kernel or the function that calls it",
    "M": "in tables, a launch or the choice of a kernel",
    "S": "in the serving system around the layer",
    "T": "in a compiler, a chip or its libraries",
}
CLASSES = {
    "padding": "ids of slots, what marks padding, and what a captured graph finds in its buffers",
    "initial state": "a state that is stale, missing, counted twice or not kept",
    "conv": "the convolution and its states",
    "drafts": "speculative rows: accepted counts, states of each token, what is committed",
    "gates": "decays, β and the precision that they are kept in",
    "norm and scale": "the norm of q and k, its ε, and the scale",
    "rows and chunks": "rows of several lengths in one launch, and chunks that they do not fill",
    "sizes": "offsets beyond 32 bits, grids beyond a card's",
    "layout": "strides, packings, heads, types and shared buffers",
    "unwritten": "results that nobody stores",
    "races": "barriers, tuners and compilers",
    "caches": "prefix caches, snapshots and schedules",
    "shards": "weights and states cut for several devices",
}
CPU = ("yes", "partly", "no")
"""Whether a processor can show the bug, with no card at all."""
HOSTS = ("cpu", "interpreter", "cuda", "rocm")
STAGES = (*Stage, WRITE_BACK)
IN_MEMORY = HOSTS[:2]
"""Hosts that need no card."""

T = TypeVar("T")
Table = Mapping[str, Any]


class CatalogueError(ValueError):
    """A file of the catalogue says too little, too much or what cannot be; the message names it."""


@dataclass(frozen=True)
class Edit:
    """`wrong` in the place of `right`, which stands once in `file`, a source file below `gdn_verify/kernels`."""

    file: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Mutant:
    """A bug's like in this project's own code: what `gdn-verify gate --plant` takes by `name`.

    It is planted in the path or table builder `path` on `host`, and shows in launches of `kinds`. Either `edits` make
    it, or a function of its name in `gdn_verify.mutants.<module>` does. `stage` is where a launch goes wrong, as a
    localiser should find: one of the contract's, "write-back" where outputs are right, "" where no value is wrong.
    """

    name: str
    what: str
    path: str
    host: str
    kinds: tuple[str, ...]
    module: str = ""
    edits: tuple[Edit, ...] = ()
    stage: str = ""


@dataclass(frozen=True)
class Bug:
    """What shipped elsewhere: where, what was wrong, what came of it, what shows it.

    `situation` names what a case must hold to show it, `out_of_reach` says why none can; each bug has one of the two.
    `not_planted` says why there are no mutants where there are none.
    """

    slug: str
    tier: str
    class_: str
    reference: str
    component: str
    cause: str
    symptom: str
    trigger: str
    caught_by: str
    cpu: str
    cpu_note: str = ""
    situation: str = ""
    out_of_reach: str = ""
    not_planted: str = ""
    mutants: tuple[Mutant, ...] = ()


@cache
def catalogue() -> tuple[Bug, ...]:
    """All bugs, by slug. Raises CatalogueError."""
    found = (file for file in (files(__package__) / "bugs").iterdir() if file.name.endswith(".toml"))
    return collected(read(file.name, file.read_text(encoding="utf-8")) for file in found)


def collected(bugs: Iterable[Bug]) -> tuple[Bug, ...]:
    """The bugs, by slug; raises CatalogueError where two mutants have one name."""
    bugs = tuple(sorted(bugs, key=lambda bug: bug.slug))
    times = Counter(mutant.name for bug in bugs for mutant in bug.mutants)
    for name, count in times.items():
        if count > 1:
            owners = ", ".join(bug.slug for bug in bugs for mutant in bug.mutants if mutant.name == name)
            raise CatalogueError(f"mutant {name!r} is there {count} times: {owners}; rename all but one")
    return bugs


def read(name: str, text: str) -> Bug:
    """The bug that a file of this name and text tells of. Raises CatalogueError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{name}: {error}") from None
    mutants = tuple(_mutant(f"{name}: mutant {number}", each) for number, each in enumerate(table.pop("mutant", ()), 1))
    plain = {("class_" if key == "class" else key): _words(name, key, value) for key, value in table.items()}
    bug = _made(Bug, name, {**plain, "mutants": mutants})
    _check_bug(name, bug)
    return bug


def _mutant(place: str, table: dict[str, Any]) -> Mutant:
    edits = tuple(_edit(f"{place}: edit {number}", each) for number, each in enumerate(table.pop("edit", ()), 1))
    kinds = table.pop("kinds", None)
    if kinds is not None and not isinstance(kinds, list):
        raise CatalogueError(f"{place}: kinds is {kinds!r}; give a list of kinds")
    plain: Table = {key: _words(place, key, value) for key, value in table.items()}
    mutant = _made(Mutant, place, {**plain, "edits": edits, **({} if kinds is None else {"kinds": tuple(kinds)})})
    _check_mutant(place, mutant)
    return mutant


def _edit(place: str, table: Table) -> Edit:
    """An edit, whose texts are taken as they stand."""
    edit = _made(Edit, place, table)
    if edit.right == edit.wrong:
        raise CatalogueError(f"{place}: right and wrong are the same")
    return edit


def _words(place: str, key: str, value: object) -> str:
    """A text with its lines joined."""
    if not isinstance(value, str):
        raise CatalogueError(f"{place}: {key} is {value!r}; give a text")
    return " ".join(value.split())


def _made(kind: type[T], place: str, given: Table) -> T:
    """`kind` of these fields: none unknown, none missing, none empty."""
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := [key for key in given if key not in known]:
        shown = ", ".join(name.rstrip("_") for name in known)
        raise CatalogueError(f"{place}: unknown field {unknown[0]!r}; known are {shown}")
    for name, field in known.items():
        if name not in given and field.default is MISSING:
            raise CatalogueError(f"{place}: {name.rstrip('_')} is missing")
        if name in given and isinstance(given[name], str) and not given[name].strip():
            raise CatalogueError(f"{place}: {name.rstrip('_')} is empty; leave it out or say something")
    return kind(**given)


def _check_bug(name: str, bug: Bug) -> None:
    """Raises CatalogueError for values that fit neither the words used here nor each other."""
    if name != f"{bug.slug}.toml":
        raise CatalogueError(f"{name}: slug is {bug.slug!r}; a file has the name of its slug")
    _expect(name, "tier", bug.tier, TIERS)
    _expect(name, "class", bug.class_, CLASSES)
    _expect(name, "cpu", bug.cpu, CPU)
    if bool(bug.situation) == bool(bug.out_of_reach):
        raise CatalogueError(f"{name}: give one of situation and out_of_reach, not both and not neither")
    if bool(bug.mutants) == bool(bug.not_planted):
        raise CatalogueError(f"{name}: give mutants, or with not_planted the reason why there are none")


def _check_mutant(place: str, mutant: Mutant) -> None:
    """Likewise."""
    if not mutant.name.isidentifier():
        raise CatalogueError(f"{place}: name is {mutant.name!r}, which is no identifier")
    if bool(mutant.module) == bool(mutant.edits):
        raise CatalogueError(f"{place}: give a module or edits, not both and not neither")
    if not mutant.kinds:
        raise CatalogueError(f"{place}: kinds is empty; name those that show it")
    _expect(place, "host", mutant.host, HOSTS)
    for kind in mutant.kinds:
        _expect(place, "kinds", kind, TOPICS)
    _expect(place, "stage", mutant.stage, ("", *STAGES))


def _expect(place: str, field: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise CatalogueError(f"{place}: {field} is {value!r}, which is none of {', '.join(known)}")
