"""What every adapter calls in three lines: the paths of this project pass, others are told what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import fake_paths
import pytest

from gdn_verify.cases.contract import ContractError
from gdn_verify.conformance import MissingPathError, conformance
from gdn_verify.paths import Path, registered

TARGETS = [(path, host) for path in registered().values() for host in path.hosts if host in ("cpu", "interpreter")]


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers find the fakes, through a real entry point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", fake_paths.install(tmp_path_factory.mktemp("site")))
        yield


OFTEN = ("fallback", "chunk-delta")
"""The gate under pytest (`tests/gate`) asks all of them the same with more cases."""


@pytest.mark.parametrize(
    ("path", "host"),
    [
        pytest.param(path, host, id=f"{path.name}-{host}", marks=[] if path.name in OFTEN else [pytest.mark.slow])
        for path, host in TARGETS
    ],
)
def test_registered_paths_conform(path: Path, host: str) -> None:
    """Every path of this project, on every host that needs no card."""
    try:
        conformance(path, host, cases=8)
    except MissingPathError as missing:
        pytest.skip(str(missing))


def test_another_packages_path_conforms() -> None:
    """One that comes in through an entry point."""
    conformance(fake_paths.fake("fake-healthy"), "cpu", cases=8)


def test_a_path_that_disagrees_is_described() -> None:
    """The assertion holds the finding, the case, and the command that runs it again."""
    with pytest.raises(AssertionError) as failed:
        conformance(fake_paths.fake("fake-wrong"), "cpu", cases=4)
    for words in ("fake-wrong on cpu, decode: values/o", "gdn-verify check CASE.json --path fake-wrong", '"schema": 1'):
        assert words in str(failed.value)


def test_a_path_that_does_not_load_fails() -> None:
    """With what the import raised."""
    with pytest.raises(AssertionError, match="undefined symbol: gdn_forward"):
        conformance(fake_paths.fake("fake-broken-import"), "cpu", cases=4)


def test_a_missing_path_is_an_error_with_its_remedy() -> None:
    """A test of an adapter whose package is not there does not pass."""
    with pytest.raises(MissingPathError, match=r"libfake is not installed \(pip install 'libfake\[gpu\]'\)"):
        conformance(fake_paths.fake("fake-missing"), "cpu")


def test_a_host_that_is_not_declared_is_an_error() -> None:
    """Nothing would run there."""
    with pytest.raises(MissingPathError, match="'cuda', only on cpu"):
        conformance(fake_paths.fake("fake-healthy"), "cuda")


def test_declarations_come_first() -> None:
    """A wrong declaration is told before any case runs."""
    path = fake_paths.fake("fake-healthy")
    path.hosts = ("cpu", "abacus")
    with pytest.raises(ContractError, match=r"path\.hosts='abacus'"):
        conformance(path, "cpu")


def test_an_unregistered_path_is_told_how() -> None:
    """Workers find paths by name, so an adapter must be registered."""
    with pytest.raises(ContractError, match=r"entry-point group gdn_verify\.paths"):
        conformance(fake_paths.Fake("fake-unregistered"), "cpu")
