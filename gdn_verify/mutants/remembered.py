"""A builder of tables that remembers its launches: what defects of tables are made of, here and in engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from torch import Tensor

from gdn_verify.paths.builder import Begin, Builder, Built, Maker, Roster, Setup

Alter = Callable[[Built, Roster], Built]


def altered(builder: Builder, remembering: Callable[[Setup], Alter]) -> Begin:
    """The builder with each launch's tables altered by what was begun with it."""

    def begin(setup: Setup) -> Maker:
        maker, alter = builder.begin(setup), remembering(setup)
        return replace(maker, build=lambda roster: alter(maker.build(roster), roster))

    return begin


def keeping(builder: Builder, table: str, whose: Callable[[Built, Roster], Iterable[int]]) -> Begin:
    """In the rows `whose`, one table holds what stood there in the last launch that had other rows in that place."""

    def remembering(setup: Setup) -> Alter:
        stood: dict[int, Tensor] = {}

        def alter(built: Built, roster: Roster) -> Built:
            rows, values = {*whose(built, roster)}, built.tensors.get(table)
            for n in range(0 if values is None else len(values)):
                assert values is not None
                if n not in rows:
                    stood[n] = values[n].clone()
                elif n in stood and stood[n].shape == values[n].shape:
                    values[n] = stood[n]
            return built

        return alter

    return altered(builder, remembering)
