"""Paths are found by name; another package's come in through its entry point, and a broken one is named."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from gdn_verify.paths import BrokenPluginError, UnknownPathError, find, registered, registry


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The entry points that are installed; the registry is read afresh, before and after."""
    installed: list[object] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: installed)
    registry.subjects.cache_clear()
    yield installed
    registry.subjects.cache_clear()


def test_an_unknown_name_comes_with_the_known_ones() -> None:
    """Whoever mistypes sees what there is."""
    with pytest.raises(UnknownPathError, match=r"'falback'.*known are .*fallback.*fla-chunk"):
        find("falback")


def test_paths_stand_under_their_own_names() -> None:
    """A path is found by the name that it declares."""
    assert all(path.name == name for name, path in registered().items())


def test_another_configuration_is_found_by_name_and_listed_nowhere() -> None:
    """The same one each time: a worker loads a path once."""
    name = "chunk-delta:chunk=64/ahead=2"
    path = find(name)
    assert (path.name, path.kernels) == (name, find("chunk-delta").kernels)
    assert find(name) is path
    assert name not in registered()


@pytest.mark.parametrize(
    "name", ["chunk-delta:", "chunk-delta:chunk", "chunk-delta:chunk=x", "no-path:chunk=64", "fallback:chunk=64"]
)
def test_what_cannot_be_configured_so_is_unknown(name: str) -> None:
    """No number, no field, no such path, or one without a choice."""
    with pytest.raises(UnknownPathError, match="no path is called"):
        find(name)


def test_another_packages_paths_come_after_our_own(points: list[object]) -> None:
    """An entry point is a function that gives paths."""
    points.append(SimpleNamespace(load=lambda: lambda: [SimpleNamespace(name="theirs")]))
    assert list(registered())[-1] == "theirs"


def test_two_paths_of_one_name_are_refused(points: list[object]) -> None:
    """A verdict must belong to one implementation."""
    points.append(SimpleNamespace(load=lambda: lambda: [SimpleNamespace(name="fallback")]))
    with pytest.raises(ValueError, match="two paths are called 'fallback'"):
        registered()


@pytest.mark.parametrize("value", ["no_such_module:paths", "math:no_such_function", "math:factorial"])
def test_a_broken_entry_point_is_named(points: list[object], value: str) -> None:
    """A plug-in that does not import, has no such function, or raises: its name is in the error."""
    points.append(EntryPoint("theirs", value, registry.GROUP))
    with pytest.raises(BrokenPluginError, match=f"entry point 'theirs' = '{value}'"):
        registered()
