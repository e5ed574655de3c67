"""Paths that misbehave in one way each, for the matrix, and the entry point by which its workers find them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace

from fake_paths import Fake, Uninstalled

from gdn_verify.cases.contract import StateOrder
from gdn_verify.paths import Launch, Outputs, Path
from gdn_verify.paths.fallback import Fallback


class TwoOrders(Fake):
    """The fake with states of either order; `factor` scales its output where they are [K, V]."""

    capabilities = replace(Fake.capabilities, state_orders=frozenset(StateOrder))

    def __init__(self, name: str, factor: float = 1.0) -> None:
        super().__init__(name)
        self._factor = factor

    def run(self, launch: Launch) -> Outputs:
        if launch.presentation.state_order is StateOrder.VK:
            return super().run(launch)
        turned = launch["initial_state"].transpose(-1, -2).contiguous()
        outputs = super().run(replace(launch, tensors={**launch.tensors, "initial_state": turned}))
        assert outputs.final_state is not None
        launch["out"].mul_(self._factor)
        return Outputs(o=outputs.o, final_state=outputs.final_state.transpose(-1, -2).contiguous())


class Forgetful(Fake):
    """Goes on from nothing, whatever state it is handed."""

    def run(self, launch: Launch) -> Outputs:
        import torch

        blank = torch.zeros_like(launch["initial_state"])
        return super().run(replace(launch, tensors={**launch.tensors, "initial_state": blank}))


class Restless(Fake):
    """Right, but every other launch in the last bit of one element."""

    launches = 0

    def run(self, launch: Launch) -> Outputs:
        outputs = super().run(launch)
        self.launches += 1
        if self.launches % 2:
            launch["out"][0, 0, 0] *= 1.0 + 2.0**-23
        return outputs


class AtPads(Fallback):
    """The fallback, and then something else where a row is nobody's."""

    hosts = ("cpu",)

    def __init__(self, name: str, trouble: Callable[[Launch, slice], object]) -> None:
        self.name = name
        self._trouble = trouble

    def run(self, launch: Launch) -> Outputs:
        outputs = super().run(launch)
        starts = launch.batch.query_start_loc
        for number, row in enumerate(launch.batch.rows):
            if row.padded and row.tokens:
                self._trouble(launch, slice(starts[number], starts[number + 1]))
        return outputs


def ones(launch: Launch, tokens: slice) -> None:
    """In the output, where zeros are declared."""
    launch["out"][tokens] = 1.0


def first_slot(launch: Launch, tokens: slice) -> None:
    """In slot 0, which is nobody's."""
    launch["ssm_pool"][0] = 3.0


def dead(launch: Launch, tokens: slice) -> None:
    """The process is no more."""
    os._exit(5)


def raising(launch: Launch, tokens: slice) -> None:
    """Loud."""
    raise IndexError("an id of nobody")


def paths() -> Iterable[Path]:
    """What the entry point gives."""
    return (
        Fake("toy-right"),
        TwoOrders("toy-orders"),
        TwoOrders("toy-wrong-order", factor=2.0),
        Restless("toy-restless"),
        AtPads("toy-pads", ones),
        AtPads("toy-dead-pads", dead),
        Uninstalled("toy-missing"),
    )
