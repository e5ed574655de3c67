"""Defects that captured and idle launches show, planted in a copy of any path with slots.

Each is the like of a bug of the catalogue, and right in an eager launch that has something to do.
"""

from __future__ import annotations

from dataclasses import replace

from gdn_verify.mutants.inputs import Run
from gdn_verify.paths.base import Launch, Outputs, Path


def branch_of_the_capture(path: Path) -> Run:
    """Whether rows are padded is asked once, on the host: without any, ids go to the kernel unguarded."""

    def run(launch: Launch) -> Outputs:
        if any(row.padded for row in launch.batch.rows):
            return path.run(launch)
        unguarded = launch["state_indices"].clamp(min=launch.presentation.first_slot)
        return path.run(replace(launch, tensors={**launch.tensors, "state_indices": unguarded}))

    return run


def busy_when_idle(path: Path) -> Run:
    """A launch without tokens clears the first slot."""

    def run(launch: Launch) -> Outputs:
        outputs = path.run(launch)
        if not launch.batch.tokens:
            launch["ssm_pool"][launch.presentation.first_slot].zero_()
        return outputs

    return run
