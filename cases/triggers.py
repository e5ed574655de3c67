"""Triggers: which situation exposes each bug of the catalogue, and which bugs no case can expose."""

from __future__ import annotations

from gdn_verify.cases.catalogue import catalogue

TRIGGERS: dict[str, str] = {bug.slug: bug.situation for bug in catalogue() if bug.situation}
OUT_OF_REACH: dict[str, str] = {bug.slug: bug.out_of_reach for bug in catalogue() if bug.out_of_reach}
