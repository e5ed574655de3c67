"""Defects by their source: copies of the kernels' package with one place changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gdn_verify.mutants import MUTANTS
from gdn_verify.mutants.sources import Kernels, changed

from .copies import DECODE, PREFILL, Launchers, launching

__all__ = ["DECODE", "PREFILL", "Edit", "of_catalogue", "planted"]


@dataclass(frozen=True)
class Edit:
    """`wrong` in the place of `right` in a source file."""

    name: str
    file: str
    right: str
    wrong: str

    def __str__(self) -> str:
        return f"{self.file.removesuffix('.py')}: {self.name}"

    def kernels(self) -> Kernels:
        """The kernels but for this edit."""
        return Kernels(changed((f"triton/{self.file}", self.right, self.wrong)))


def of_catalogue(name: str) -> Edit:
    """The mutant of this name, if it is one edit."""
    (edit,) = MUTANTS[name].edits
    return Edit(name, edit.file.removeprefix("triton/"), edit.right, edit.wrong)


@contextmanager
def planted(edit: Edit, launchers: Launchers = PREFILL) -> Iterator[None]:
    """Whoever calls one of these functions from now on launches kernels of a copy."""
    with launching(edit.kernels(), launchers):
        yield
