"""Paths on the cards of a machine that is not there (`fake_machine`): two, so that two workers have one each."""

from __future__ import annotations

import os
from collections.abc import Iterable

import fake_machine
import fake_paths

from gdn_verify.paths.base import Path


class OnCard(fake_paths.Fake):
    """The healthy fake, on a card."""

    hosts = ("rocm",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.kernels = ("some_kernel",) if os.environ.get(fake_machine.PLANT) == "no kernels" else ()


def paths() -> Iterable[Path]:
    """What the entry point gives."""
    return (OnCard("card-a"), OnCard("card-b"))
