"""Small paths that misbehave in one way each, and the entry point by which workers find them.

All but one are the same token-by-token recurrence in plain torch, which is right; `at` says for which head dimension K
of a case something else happens. Cases are told apart by K, since a path sees no case numbers.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from itertools import accumulate
from pathlib import Path as File
from typing import NoReturn

import gdn_verify
from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, dumps
from gdn_verify.cases.contract import Capabilities, DType, DTypes, Geometry, Group, Span, Stage, StateOrder
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import sequential_float32
from gdn_verify.paths import Builder, Built, Launch, Maker, Missing, Outputs, Path, Roster, Setup
from gdn_verify.paths.builder import EVERYTHING
from gdn_verify.paths.fallback import Fallback

F32, BF16 = frozenset({DType.F32}), frozenset({DType.BF16})
Trouble = Callable[[Launch], None]


class Fake(Path):
    """The delta rule on dense float32 states, decode only, with trouble at some head dimensions."""

    hosts: tuple[str, ...] = ("cpu",)
    capabilities = Capabilities(
        span=Span(Stage.DELTA, Stage.DELTA),
        groups=frozenset({Group.DECODE}),
        pool=False,
        min_tokens=1,  # so that tokens are rows
        paddings=frozenset(),
        activations=F32,
        states=F32,
        gates=F32,
        state_orders=frozenset({StateOrder.VK}),
    )

    def __init__(self, name: str, at: Mapping[int, Trouble] | None = None) -> None:
        self.name = name
        self._at = at or {}

    def missing(self, host: str) -> Missing | None:
        return None

    def load(self, host: str) -> str:
        return "1.0"

    def run(self, launch: Launch) -> Outputs:
        import torch

        g, state = launch.geometry, launch["initial_state"].clone()
        q, k = (_unit(launch[name]).repeat_interleave(g.ratio, dim=1) for name in ("q", "k"))
        q = q * launch.options.q_scale(g)
        state *= torch.exp(launch["g"])[..., None, None]
        u = launch["beta"][..., None] * (launch["v"] - torch.einsum("nhvk,nhk->nhv", state, k))
        state += u[..., None] * k[..., None, :]
        launch["out"].copy_(torch.einsum("nhvk,nhk->nhv", state, q))
        self._at.get(g.K, _nothing)(launch)
        return Outputs(o=launch["out"], final_state=state)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        return sequential_float32(case.dtypes, store=DType.F32)


class Unloadable(Fake):
    """Installed, it seems, but its load fails or worse."""

    def __init__(self, name: str, end: Callable[[], NoReturn]) -> None:
        super().__init__(name)
        self._end = end

    def load(self, host: str) -> str:
        self._end()


class Uninstalled(Fake):
    """Not installed here."""

    def __init__(self, name: str, hosts: tuple[str, ...] = ("cpu",)) -> None:
        super().__init__(name)
        self.hosts = hosts

    def missing(self, host: str) -> Missing | None:
        return Missing("libfake is not installed", "pip install 'libfake[gpu]'")


class Opaque(Fallback):
    """The fallback as a kernel would be: bfloat16 in memory, and no stage shown."""

    name = "fake-opaque-bf16"
    hosts = ("cpu",)
    shows = frozenset()
    capabilities = replace(Fallback.capabilities, activations=BF16, states=BF16, conv_states=BF16)

    def run(self, launch: Launch) -> Outputs:
        return Outputs(o=super().run(launch).o)


class FakeTables(Builder):
    """Plain decode rows, one table anew for each launch, with trouble at the end."""

    capabilities = replace(EVERYTHING, groups=frozenset({Group.DECODE}), separate_slots=False, int64_indices=False)

    def __init__(self, name: str, trouble: Callable[[Built], object]) -> None:
        self.name = name
        self._trouble = trouble

    def missing(self, host: str) -> Missing | None:
        return None

    def load(self, host: str) -> str:
        return "1.0"

    def begin(self, setup: Setup) -> Maker:
        return Maker(lambda roster: self._built(setup, roster))

    def _built(self, setup: Setup, roster: Roster) -> Built:
        import torch

        missing = (roster.pad_to or len(roster.rows)) - len(roster.rows)
        ids = [setup.presentation.physical(row.slots[0]) for row in roster.rows]
        starts = [0, *accumulate([*(row.tokens for row in roster.rows), *[0] * missing])]
        built = Built(
            {
                "query_start_loc": torch.tensor(starts, dtype=torch.int32),
                "state_indices": torch.tensor([*ids, *[setup.presentation.sentinel] * missing], dtype=torch.int32),
                "has_initial_state": torch.ones(len(ids) + missing, dtype=torch.bool),
            }
        )
        self._trouble(built)
        return built


def _shift(built: Built) -> None:
    built.tensors["state_indices"].add_(1)


def builder(name: str) -> FakeTables:
    """The fake builder of this name."""
    return next(each for each in builders() if each.name == name)


def builders() -> tuple[FakeTables, ...]:
    """Table builders that the entry point gives too."""
    return (
        FakeTables("fake-tables", lambda built: None),
        FakeTables("fake-tables-wrong", _shift),
        FakeTables("fake-tables-dead", lambda built: os._exit(3)),
        FakeTables("fake-tables-raise", lambda built: built.tensors["block_table"]),
    )


def _unit(x):  # type: ignore[no-untyped-def]  # Tensor in, Tensor out; torch is not imported here
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def _nothing(launch: Launch) -> None:
    """No trouble."""


def _segfault(launch: Launch) -> None:
    ctypes.string_at(0)


def _hang(launch: Launch) -> None:
    time.sleep(3600)


def _exit(launch: Launch) -> None:
    os._exit(3)


def _raise(launch: Launch) -> None:
    raise RuntimeError("an illegal launch configuration")


def _double(launch: Launch) -> None:
    launch["out"].mul_(2.0)


def _broken_import() -> NoReturn:
    raise ImportError("libfake.so: undefined symbol: gdn_forward")


def _fatal_import() -> NoReturn:
    os._exit(7)


DIMS = (8, 16, 24, 32, 40, 48)
"""Head dimensions K of `case_files`, in order."""


def paths() -> Iterable[Path | Builder]:
    """What the entry point gives: all fakes."""
    return (*_layers(), *builders())


def _layers() -> tuple[Path, ...]:
    return (
        Fake("fake-healthy"),
        Fake("fake-segfault-16", at={16: _segfault}),
        Fake("fake-segfault-40", at={40: _segfault}),
        Fake("fake-hang-24", at={24: _hang}),
        Fake("fake-raise-8", at={8: _raise}),
        Fake("fake-exit-48", at={48: _exit}),
        Fake("fake-always-dead", at=dict.fromkeys(DIMS, _exit)),
        Fake("fake-wrong", at=dict.fromkeys(range(1, 257), _double)),
        Unloadable("fake-broken-import", _broken_import),
        Unloadable("fake-fatal-import", _fatal_import),
        Uninstalled("fake-missing"),
        Uninstalled("fake-missing-everywhere", hosts=("cpu", "cuda", "rocm")),
        Opaque(),
    )


def fake(name: str) -> Path:
    """The fake of this name."""
    return next(path for path in _layers() if path.name == name)


def case_files() -> tuple[str, ...]:
    """One decode case for each head dimension."""
    batch = Batch((Row(1, (0,)), Row(1, (1,))))
    return tuple(dumps(CaseFile(Case(Geometry(2, 2, K, 8), DTypes(), 2, (batch,)))) for K in DIMS)


def install(folder: File, fakes: str = "fake_paths:paths") -> str:
    """Make `folder` a place from which the fakes are installed; the PYTHONPATH that says so.

    The pytest plugin comes along where gdn-verify itself runs from a source tree, and so has no entry points.
    """
    info = folder / "gdn_fakes-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: gdn-fakes\nVersion: 1.0\n", encoding="utf-8")
    points = f"[gdn_verify.paths]\nfakes = {fakes}\n"
    if not entry_points(group="pytest11", name="gdn-verify"):
        points += "[pytest11]\ngdn-verify = gdn_verify.pytest_plugin\n"
    info.joinpath("entry_points.txt").write_text(points, encoding="utf-8")
    source = File(gdn_verify.__file__).parents[1]
    return os.pathsep.join(map(str, (folder, File(__file__).parent, source)))
