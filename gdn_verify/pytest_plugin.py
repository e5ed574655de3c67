"""The gate under pytest: one test for each path, host and kind, in this repository or in anyone's.

    def test_kernel(gdn_target, gdn_gate):
        gdn_gate(gdn_target)

`gdn_target` runs over every registered path and table builder (those of other packages too) on every host and for every
kind. A target that cannot run here is skipped with the reason; `--gdn-require cuda` makes that an error for every path.
`--gdn-expect cuda` fails the run in which no case at all was judged on such a device: a runner that lost its card does
not stay green. Nothing heavy is imported before a gate test is collected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gdn_verify.gate import Crew
    from gdn_verify.service import Job

PROFILE, PATHS, HOSTS = "--gdn-profile", "--gdn-paths", "--gdn-hosts"
REQUIRE, EXPECT = "--gdn-require", "--gdn-expect"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the gate."""
    group = parser.getgroup("gdn-verify")
    group.addoption(PROFILE, default="quick", help="how much each gate test runs: quick, gate or nightly")
    group.addoption(PATHS, default="", help="paths to judge, separated by commas; all by default")
    group.addoption(HOSTS, default="", help="hosts to run on, separated by commas; all by default")
    group.addoption(REQUIRE, default="", help="hosts that must be able to run, separated by commas")
    group.addoption(EXPECT, default="", help="devices that must be used: cuda, rocm or cpu, separated by commas")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """One GPU for each xdist worker, before a conftest.py can touch another."""
    _pin()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The same where this plugin itself comes from a conftest.py; and note what the run is expected to use."""
    _pin()
    expected = _words(config, EXPECT)
    if expected and not hasattr(config, "workerinput") and not config.option.collectonly:
        from gdn_verify.expected import DEVICES, Expectation

        _known("device", expected, DEVICES)
        for device in expected:
            _kept(config, EXPECT, device, DEVICES[device])
        config.pluginmanager.register(Expectation(expected), "gdn-verify-expectation")


def _pin() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw"):
        from gdn_verify.hosts.pin import TooLateError, pin_device

        try:
            pin_device(int(worker[2:]))
        except TooLateError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Spread `gdn_target` over paths × hosts × kinds."""
    if "gdn_target" not in metafunc.fixturenames:
        return
    targets = _targets(metafunc.config)
    metafunc.parametrize("gdn_target", targets, ids=["-".join(target) for target in targets])


def _targets(config: pytest.Config) -> list[tuple[str, str, str]]:
    from gdn_verify import hosts as host_registry
    from gdn_verify.paths import UnknownPathError, find_subject, subjects
    from gdn_verify.paths.relay import relays, topics
    from gdn_verify.profiles import PROFILES

    known = host_registry.HOSTS
    _known("profile", [config.getoption(PROFILE)], PROFILES)
    hosts = _words(config, HOSTS) or list(host_registry.DEFAULT)
    _known("host", [*hosts, *_words(config, REQUIRE)], known)
    for host in _words(config, REQUIRE):
        _kept(config, REQUIRE, host, (host,))
    try:
        paths = [find_subject(name) for name in _words(config, PATHS) or subjects()]
        paths += [] if _words(config, PATHS) else relays(paths)
    except UnknownPathError as error:
        raise pytest.UsageError(str(error)) from None
    return [
        (path.name, host, kind.value) for path in paths for host in path.hosts if host in hosts for kind in topics(path)
    ]


def _known(what: str, words: Iterable[str], known: Collection[str]) -> None:
    for word in words:
        if word not in known:
            raise pytest.UsageError(f"no {what} is called {word!r}; known are {', '.join(known)}")


def _kept(config: pytest.Config, option: str, word: str, hosts: Collection[str]) -> None:
    """Refuse a word of `option` that needs one of `hosts`, where the run is narrowed to others."""
    narrowed = _words(config, HOSTS)
    if narrowed and not {*narrowed} & {*hosts}:
        raise pytest.UsageError(f"{option} names {word}, which {HOSTS} leaves out")


def _words(config: pytest.Config, option: str) -> list[str]:
    return [word.strip() for word in config.getoption(option).split(",") if word.strip()]


@pytest.fixture(scope="session")
def _gdn_crews() -> Iterator[dict[str, Crew]]:
    """By host, a worker that judges target after target: each takes seconds to begin."""
    crews: dict[str, Crew] = {}
    yield crews
    for crew in crews.values():
        crew.close()


@pytest.fixture
def gdn_gate(request: pytest.FixtureRequest, _gdn_crews: dict[str, Crew]) -> Callable[[tuple[str, str, str]], None]:
    """A function that judges one target and fails the test with the smallest failing case."""

    def judge(target: tuple[str, str, str]) -> None:
        __tracebackhide__ = True
        from gdn_verify import gate
        from gdn_verify.expected import properties
        from gdn_verify.profiles import PROFILES
        from gdn_verify.report.table import describe, grouped

        profile = PROFILES[request.config.getoption(PROFILE)]
        crew = _gdn_crews.setdefault(target[1], gate.Crew())
        report = gate.run(_jobs(target, profile.name), profile, workers=1, crew=crew)
        report.finish()
        request.node.user_properties += properties(report)
        for (path, host), reason in report.absent.items():
            if host in _words(request.config, REQUIRE):
                pytest.fail(f"{path} on {host} was required: {reason}", pytrace=False)
            pytest.skip(f"missing: {path} on {host}: {reason}")
        if not report.ok:
            found = [describe(failure, count) for failure, count in grouped(report.failures)]
            pytest.fail("\n\n".join([*report.broken, *found]) or "nothing ran", pytrace=False)

    return judge


def _jobs(target: tuple[str, str, str], profile: str) -> list[Job]:
    from gdn_verify import gate
    from gdn_verify.cases.topics import topic
    from gdn_verify.corpus import corpus, planned, proofs, ruled
    from gdn_verify.paths import find_subject
    from gdn_verify.profiles import PROFILES

    path, host, about = find_subject(target[0]), target[1], topic(target[2])
    saved = planned(corpus(), [path], [host], [about])
    shown = proofs([path], [host], [about])
    return ruled([*shown, *saved, *gate.plan([path], [host], [about], PROFILES[profile])])
