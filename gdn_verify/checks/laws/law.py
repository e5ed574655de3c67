"""What a law is: a name, what it says, what it needs, and how it varies a launch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gdn_verify.checks.laws.relation import Relation
from gdn_verify.checks.laws.shots import Setting

Varied = list[Relation]
"""Relations that must hold; those whose launches a path does not take are left out."""


@dataclass(frozen=True)
class Law:
    """How launches of one path bind each other, whatever the right numbers are.

    `needs` says why the law says nothing of a launch, or None. The docstring of `vary` names what it is there for.
    """

    name: str
    says: str
    needs: Callable[[Setting], str | None]
    vary: Callable[[Setting], Varied]

    @property
    def about(self) -> str:
        """The law and the bugs it is there for, in full."""
        return self.vary.__doc__ or ""


def nothing(setting: Setting) -> str | None:
    """A law for any launch."""
    return None
