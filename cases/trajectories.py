"""Trajectories: requests over many launches on one pool, as an engine serves them.

A case is a pool and batches, so a trajectory is a case, and its file, its replay and its judgement are those of any
other. It is drawn as data, not driven as a Hypothesis state machine: a machine's steps exist only while they run, on
one path, and shrink to a script; these are a list of lists of small numbers (`engine.Wish`), that the engine makes the
best of. Nothing drawn is thrown away, the same seed gives the same cases in every process, and Hypothesis shrinks them
by leaving out launches and wishes, which leaves a legal case every time.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Capabilities, ContractError, Conventions, Group, Kind, Stage
from gdn_verify.cases.engine import Act, Engine, Wish
from gdn_verify.cases.launches import Room, renumbered, scatter
from gdn_verify.cases.narrow import first_slot, taken_groups
from gdn_verify.cases.shapes import Draw, Shape, pick
from gdn_verify.cases.sizes import Size
from gdn_verify.cases.strategies import Fed, presented, room_for, shapes_for
from gdn_verify.cases.values import Betas, Fill, Gates, States, Taps, Values, Vectors

LAUNCHES = 12
COURSE = Size(max_rows=4, max_row_tokens=17, max_tokens=24, max_value_heads=3, max_dim=32, max_slots=16)
"""Bounds of a trajectory: what a launch computes matters less than what it leaves."""

_ACTS = (
    Act.STEP, Act.ADMIT, Act.DRAFT, Act.FREE, Act.PREEMPT, Act.FORK, Act.PAD,
    *(Act.STEP, Act.ADMIT, Act.DRAFT, Act.DRAFT, Act.DRAFT) * 2,
    *(Act.ROUND,) * 2,
)  # fmt: skip
"""Each act once, and the frequent ones again."""
_WHO, _MANY = 4, 8
_WISH = st.tuples(st.integers(0, len(_ACTS) * _WHO - 1), st.integers(0, _MANY * _MANY - 1))
_LAUNCH = st.tuples(st.lists(_WISH, min_size=1, max_size=4), st.booleans())
_LAUNCHES = st.lists(_LAUNCH, min_size=1, max_size=LAUNCHES)


def served(capabilities: Capabilities) -> bool:
    """Whether a path can be led through a trajectory: its states outlive a launch."""
    return capabilities.pool and Stage.DELTA in capabilities.span and bool(taken_groups(capabilities))


def trajectories(
    capabilities: Capabilities,
    conventions: Conventions,
    *,
    size: Size = COURSE,
    shapes: tuple[Shape, ...] | None = None,
) -> SearchStrategy[Fed]:
    """A trajectory that a path takes, and a way to feed it; with `shapes`, of those compile keys only.

    Up to `LAUNCHES` launches over a pool so small that slots are soon used again. Every request begins in one of them,
    in a slot of NaN or of another's state, where the path can begin any; else the pool holds states at the start. What
    the tensors hold is plain and forgets slowly, so that a state shows wherever it is read. Raises ContractError for a
    path whose states do not outlive a launch. Shrinks towards the fewest launches, then wishes, then tokens: one
    request that begins with one token.
    """
    if not served(capabilities):
        raise ContractError(f"capabilities.pool={capabilities.pool}: no state of this path outlives a launch")
    drafts = Group.SPEC in taken_groups(capabilities)
    shape = shapes_for(capabilities, Kind.SPEC if drafts else Kind.DECODE, size, shapes)

    @st.composite
    def fed(draw: Draw) -> Fed:
        launches = draw(_LAUNCHES)
        key = draw(shape)
        room = room_for(capabilities, conventions, key, size, 1)
        slots, places = _pool(draw, conventions, room, drafts)
        engine = Engine(capabilities, room, [*range(len(places))][::-1])
        for wishes, filled in launches:
            engine.launch([_wish(*wish) for wish in wishes], filled)
        if not engine.batches:
            engine.launch([Wish(Act.STEP)], False)
        if not engine.batches:
            raise ContractError("capabilities leave no launch")
        batches = tuple(renumbered(batch, places.__getitem__) for batch in engine.batches)
        options = replace(key.options, scale=key.options.scale or None)
        case = Case(key.geometry, key.dtypes, slots, batches, _values(draw), options)
        return case, presented(draw, conventions, case, key.layout)

    built: SearchStrategy[Fed] = fed()
    return built


def _wish(act: int, numbers: int) -> Wish:
    """Two numbers drawn as the four of a wish: fewer choices are drawn, and shrink, faster."""
    return Wish(_ACTS[act // _WHO], act % _WHO, *divmod(numbers, _MANY))


def _pool(draw: Draw, conventions: Conventions, room: Room, drafts: bool) -> tuple[int, list[int]]:
    """How many slots there are, and which of them the engine's are, in its order."""
    table = room.S if drafts else 1
    more = pick(draw, (1, 2, 0, table, table, table + 1, 2 * table, 3 * table))
    count = min(table + 1 + more, max(room.slots, table + 1))
    scratch = None if conventions.scratch_slot is None else conventions.scratch_slot - first_slot(conventions)
    size = count + (scratch is not None and 0 <= scratch <= count)
    free = [slot for slot in range(size) if slot != scratch]
    return size, scatter(count, free, pick(draw, (0, 0, 1, -1)), pick(draw, (1, 1, -1, 3)))


def _values(draw: Draw) -> Values:
    return Values(
        seed=pick(draw, range(1024)),
        q=Vectors.NORMAL,
        k=Vectors.NORMAL,
        v=Fill.NORMAL,
        gates=pick(draw, (Gates.WEAK, Gates.NORMAL, Gates.ZERO, Gates.SPARSE)),
        beta=pick(draw, (Betas.NORMAL, Betas.HALF)),
        state=States.NORMAL,
        conv=pick(draw, (Taps.NORMAL, Taps.MEAN)),
        z=Fill.NORMAL,
    )
