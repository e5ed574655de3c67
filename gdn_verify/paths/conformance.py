"""The declarations of a path, held to their words: nothing runs here but `missing` and `rounding`.

`declarations` raises ContractError with the name of the field that is wrong. Running cases is
`gdn_verify.conformance`, which calls this first.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from dataclasses import fields
from multiprocessing.connection import Connection

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import (
    QK_EPSILONS,
    RATIOS,
    Capabilities,
    Conventions,
    DType,
    Group,
    IdRule,
    Padding,
    PadPolicy,
    Span,
    Stage,
    require,
)
from gdn_verify.cases.shapes import draw_cases
from gdn_verify.cases.strategies import cases
from gdn_verify.hosts import HOSTS, Host
from gdn_verify.hosts.worker import Worker
from gdn_verify.oracles.noise import Rounding
from gdn_verify.paths.base import Missing, Path
from gdn_verify.paths.registry import GROUP, Subject, UnknownPathError, find_subject

HEAVY = ("torch", "triton")
"""What a path must not import before `load`: listing paths, and a user's own tests, would pay for it."""
PATIENCE = 120.0

_PADDED_ROWS = {Padding.SENTINEL_ROW, Padding.SENTINEL_EMPTY_ROW}
_SETS: dict[str, Iterable[object]] = {
    "groups": Group,
    "ratios": RATIOS,
    "widths": range(2, 9),
    "beta_scales": (1.0, 2.0),
    "qk_epsilons": QK_EPSILONS,
    **dict.fromkeys(("activations", "states", "conv_states", "gates", "params"), DType),
}
"""Sets of which a path takes at least one member, and what may stand in them."""


def declarations(path: Subject) -> None:
    """Check every declaration of `path`; raises ContractError naming the first field that is wrong."""
    _name(path)
    _hosts(path)
    _capabilities(path.capabilities)
    shows = path.shows if isinstance(path, Path) else frozenset[str]()
    _conventions(path.conventions, path.capabilities, shows)
    require(0.0 <= path.least_reach <= 1.0, "path.least_reach", path.least_reach, "is a share, 0 to 1")
    for host in path.hosts:
        _missing(path, host)
        if isinstance(path, Path):
            _roundings(path, host)
    early = early_imports(path)
    require(not early, "path.load", early, "imports the implementation; here it was imported before")


def _name(path: Subject) -> None:
    name = getattr(path, "name", None)
    plain = isinstance(name, str) and name != "" and not set(name) & set(", \t\n")
    require(plain, "path.name", name, "is a word without spaces or commas")


def _hosts(path: Subject) -> None:
    hosts, kernels = getattr(path, "hosts", None), path.kernels
    known = f"is a tuple of some of {', '.join(HOSTS)}"
    require(isinstance(hosts, tuple) and len(hosts) > 0, "path.hosts", hosts, known)
    for host in path.hosts:
        require(host in HOSTS, "path.hosts", host, known)
    require(len(set(path.hosts)) == len(path.hosts), "path.hosts", hosts, "names each host once")
    words = isinstance(kernels, tuple) and all(isinstance(word, str) and word for word in kernels)
    require(words, "path.kernels", kernels, "is a tuple of substrings of kernels' names")
    if "interpreter" in path.hosts:
        require(len(kernels) > 0, "path.kernels", kernels, "names the Triton kernels, to tell that they ran")


def _capabilities(c: Capabilities) -> None:
    require(isinstance(c, Capabilities), "path.capabilities", c, "is a Capabilities")
    require(isinstance(c.span, Span), "capabilities.span", c.span, "is a Span")
    ends = c.span.last in (Stage.DELTA, Stage.NORM)
    require(ends, "capabilities.span", str(c.span), "ends after delta or norm: other ends are not judged yet")
    for field in fields(c):
        value = getattr(c, field.name)
        if field.name in _SETS:
            _set(field.name, value, _SETS[field.name])
    require(isinstance(c.paddings, frozenset), "capabilities.paddings", c.paddings, "is a frozenset of Padding")
    require(0 <= c.max_spec <= 7, "capabilities.max_spec", c.max_spec, "lies in 0…7")
    require(c.min_tokens >= 0, "capabilities.min_tokens", c.min_tokens, "is no negative number")
    if c.max_tokens is not None:
        least = max(c.min_tokens, 1)
        require(c.max_tokens >= least, "capabilities.max_tokens", c.max_tokens, f"is at least {least}, as min_tokens")
    require(len(c.kinds) > 0, "capabilities.kinds", c.kinds, "holds at least one launch kind")


def _set(name: str, value: object, allowed: Iterable[object]) -> None:
    legal = tuple(allowed)
    filled = isinstance(value, frozenset) and len(value) > 0 and value <= set(legal)
    require(filled, f"capabilities.{name}", value, f"is a frozenset of at least one of {', '.join(map(str, legal))}")


def _conventions(conventions: Conventions, c: Capabilities, shows: frozenset[str]) -> None:
    require(isinstance(conventions, Conventions), "path.conventions", conventions, "is a Conventions")
    for stage, rule in conventions.pads:
        require(isinstance(rule, IdRule), "conventions.pads", rule, "holds pairs (Stage, IdRule)")
        require(stage in c.span, "conventions.pads", stage, f"is no stage of {c.span}")
    if c.pool and c.paddings & _PADDED_ROWS:
        ids = conventions.pad_ids(1)
        require(len(ids) > 0, "conventions.pads", conventions.pads, "leave no id on which all stages agree")
    outputs = ("out", "z_out") if c.span.first is Stage.UNPACK else ("out",)
    outputs = (*outputs, *sorted(shows))
    for output, policy in conventions.pad_outputs:
        require(output in outputs, "conventions.pad_outputs", output, f"is none of the outputs {', '.join(outputs)}")
        require(isinstance(policy, PadPolicy), "conventions.pad_outputs", policy, "holds pairs (output, PadPolicy)")
        copied = policy is not PadPolicy.COPIES or output == "z_out"
        require(copied, "conventions.pad_outputs", conventions.pad_outputs, "can promise copies of z_out alone")
    slot = conventions.scratch_slot
    require(slot is None or slot >= 0, "conventions.scratch_slot", slot, "is None or a slot number")


def _missing(path: Subject, host: str) -> None:
    missing = path.missing(host)
    require(missing is None or isinstance(missing, Missing), "path.missing", missing, "returns a Missing or None")


def _roundings(path: Path, host: str) -> None:
    """One case of each kind: what the budget's floor is taken from must be declared for every result."""
    for kind in path.capabilities.kinds:
        case, shown = draw_cases(cases(path.capabilities, path.conventions, kind), 1, 0)[0]
        _rounding(path.rounding(case, shown, host), path.capabilities.span, case)


def _rounding(rounding: Rounding, span: Span, case: Case) -> None:
    require(isinstance(rounding, Rounding), "path.rounding", rounding, "returns a Rounding")
    outputs = dict(rounding.outputs)
    for result in results(span):
        stored = outputs.get(result)
        require(isinstance(stored, DType), "rounding.outputs", outputs, f"gives the type in which {result} is stored")
    require(len(rounding.sites) > 0, "rounding.sites", rounding.sites, f"names what is rounded for {case.dtypes}")


def results(span: Span) -> tuple[str, ...]:
    """The results of a span that are judged: its last output, and the states."""
    last = "out" if Stage.NORM in span else "o"
    return (last, "h") if Stage.DELTA in span else (last,)


def early_imports(path: Subject) -> tuple[str, ...]:
    """The heavy packages that defining `path` and asking what is missing import, seen in a process of its own.

    Raises ContractError where that process does not find the path by name.
    """
    with Worker(HOSTS["cpu"], f"{__name__}:answer", bare=True) as worker:
        worker.send((type(path).__module__, path.name))
        found: tuple[str, ...] | None = worker.receive(PATIENCE)
    require(found is not None, "path.name", path.name, f"is registered through the entry-point group {GROUP}")
    assert found is not None
    return found


def answer(host: Host, pipe: Connection) -> None:
    """The worker's side of `early_imports`: the path's module alone first, so that the blame is its own."""
    module, name = pipe.recv()
    importlib.import_module(module)
    alone = _heavy_modules()
    path = _by_name(name)
    together = _heavy_modules()
    if path is None:
        pipe.send(None)
        return
    for there in path.hosts:
        path.missing(there)
    pipe.send((*alone, *(package for package in _heavy_modules() if package not in together)))


def _by_name(name: str) -> Subject | None:
    try:
        return find_subject(name)
    except UnknownPathError:
        return None


def _heavy_modules() -> tuple[str, ...]:
    return tuple(package for package in HEAVY if package in sys.modules)
