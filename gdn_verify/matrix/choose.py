"""Which cases of a kind to judge a path by, so that each feature that it takes stands in some of them.

Most are drawn as the gate draws them. A feature that none has is put into one that was drawn: the path takes that, and
it is judged, or refuses it, and says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gdn_verify.cases.contract import ContractError, Kind
from gdn_verify.cases.shapes import draw_cases, shape_pool
from gdn_verify.cases.sizes import BRIEF, PREFILL_SMALL, SMALL, Size
from gdn_verify.cases.strategies import Fed, cases
from gdn_verify.cases.topics import Series, Topic
from gdn_verify.cases.trajectories import trajectories
from gdn_verify.hosts import COMPILING
from gdn_verify.matrix.features import Feature, NotMadeError, NotOfPathError, every, names
from gdn_verify.paths import Path
from gdn_verify.paths.refusal import refusal_of

SEED = 20260805
DRAWN, DRAWN_COURSES = 160, 24
"""Cases that are chosen from."""
SHAPES = 8
"""Geometries of what is drawn on a GPU for a path that compiles each of them."""
BASES = 8
"""Cases into which a feature is put, before it counts as refused."""


@dataclass(frozen=True)
class Chosen:
    """The cases of one kind, and by name what features are `refused`, and why, or `unreached`."""

    files: tuple[Fed, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    unreached: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    """Why the path takes no launch of the kind, or ""."""


def choose(path: Path, host: str, topic: Topic, count: int) -> Chosen:
    """Cases of which `count` have each feature, as far as the path takes them; of trajectories twice as many, of middle
    length, whatever they have: the launches of each are many."""
    if isinstance(topic, Kind) and topic not in path.capabilities.kinds:
        return Chosen(kind=f"takes {', '.join(path.capabilities.kinds)}")
    try:
        drawn = _drawn(path, host, topic)
    except ContractError as error:
        return Chosen(kind=str(error))
    able = sorted((fed for fed in drawn if _lives(fed) and refusal_of(path, *fed) is None), key=work)
    if not able:
        return Chosen(kind=next(filter(None, (refusal_of(path, *fed) for fed in drawn)), "no such case"))
    if isinstance(topic, Series):
        return Chosen(tuple(able[len(able) // 2 :][: 2 * count]))
    concerned = [each for each in every() if each.concerns(path, topic)]
    picked = covering(able, lambda fed: names(fed, path, topic), count)
    having = Counter(name for fed in picked for name in names(fed, path, topic))
    refused: dict[str, str] = {}
    unreached: dict[str, str] = {}
    for each in concerned:
        lacking = count - having[each.name]
        for fed in _put(each, able, path, topic, lacking, refused, unreached) if lacking > 0 else ():
            if fed not in picked:
                picked.append(fed)
                having.update(names(fed, path, topic))
        if having[each.name]:
            refused.pop(each.name, None)
            unreached.pop(each.name, None)
    return Chosen(tuple(picked), refused, {name: why for name, why in unreached.items() if name not in refused})


def _drawn(path: Path, host: str, topic: Topic) -> list[Fed]:
    c = path.capabilities
    size = _size(path, host, topic)
    pool = shape_pool(c, SHAPES, size=size) if host in COMPILING and path.compiles else None
    if isinstance(topic, Series):
        return draw_cases(trajectories(c, path.conventions, shapes=pool), DRAWN_COURSES, SEED)
    return draw_cases(cases(c, path.conventions, topic, size=size, shapes=pool), DRAWN, SEED)


def _size(path: Path, host: str, topic: Topic) -> Size:
    """Small ones where a program costs much: what is larger is put into them."""
    if host == "interpreter":
        return BRIEF
    return SMALL if topic in (Kind.DECODE, Kind.SPEC) else PREFILL_SMALL


def _lives(fed: Fed) -> bool:
    """Whether every launch computes anything: others prove nothing."""
    return all(any(row.live for row in batch.rows) for batch in fed[0].batches)


def work(fed: Fed) -> int:
    """What a case costs: elements of states that its tokens touch."""
    g = fed[0].geometry
    return sum(batch.tokens + 1 for batch in fed[0].batches) * g.HV * g.K * g.V


def covering(able: Sequence[Fed], named: Callable[[Fed], Iterable[str]], count: int) -> list[Fed]:
    """Few of the cases that are `able`, cheap ones first, of which `count` have each name that any has."""
    left = [(fed, frozenset(named(fed))) for fed in able]
    picked: list[Fed] = []
    have = Counter[str]()
    while left:
        gains = [sum(have[name] < count for name in has) for _, has in left]
        if not max(gains):
            break
        fed, has = left.pop(gains.index(max(gains)))
        picked.append(fed)
        have.update(has)
    return picked


def _put(
    feature: Feature, bases: Sequence[Fed], path: Path, topic: Topic, count: int,
    refused: dict[str, str], unreached: dict[str, str],
) -> list[Fed]:  # fmt: skip
    """Up to `count` cases with the feature put in; why there are none is entered."""
    made: list[Fed] = []
    for base in bases[:BASES]:
        try:
            fed = put(feature, base, path, topic)
        except NotOfPathError as error:
            refused[feature.name] = str(error)
            break
        except (NotMadeError, ContractError) as error:
            unreached.setdefault(feature.name, str(error))
            continue
        if reason := refusal_of(path, *fed):
            refused.setdefault(feature.name, reason)
        elif fed not in made:
            made.append(fed)
        if len(made) == count:
            break
    return made


def put(feature: Feature, base: Fed, path: Path, topic: Topic) -> Fed:
    """The case with the feature, of the same kind. Raises NotMadeError or ContractError."""
    fed = feature.put(base, path)
    if isinstance(topic, Kind) and fed[0].batches[0].kind is not topic:
        raise NotMadeError(f"a {topic} with it is a {fed[0].batches[0].kind}")
    if feature.name not in names(fed, path, topic):
        raise NotMadeError("the case has it not")
    return fed
