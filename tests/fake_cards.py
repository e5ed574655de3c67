"""Paths on the cards of a machine that is not there (`fake_machine`): two, so that two workers have one each."""

from __future__ import annotations

from collections.abc import Iterable

import fake_paths

from gdn_verify.paths.base import Path


class OnCard(fake_paths.Fake):
    """The healthy fake, on a card; a variant, of which less is asked."""

    hosts = ("rocm",)
    variant = True


def paths() -> Iterable[Path]:
    """What the entry point gives."""
    return (OnCard("card-a"), OnCard("card-b"))
