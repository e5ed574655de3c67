"""Devices that a run under pytest must really have used: counted from what was judged, not from what is installed.

Each gate test says on its report what its cases ran on. Reports reach xdist's controller whichever worker made them,
so that there is one sum, and it is a JUnit file's property of each test too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gdn_verify.report.tally import Report

DEVICES = {"cuda": ("cuda",), "rocm": ("rocm",), "cpu": ("cpu", "interpreter", "emulated-cuda")}
"""Kinds of devices that can be expected, and the hosts that run there."""
USED, ABSENT = "gdn_used", "gdn_absent"


def properties(report: Report) -> list[tuple[str, Any]]:
    """What a gate test leaves on its report: devices used, and why hosts were not."""
    used = {
        device: {"cases": use.cases, "kernels": use.kernels, "names": sorted(use.names)}
        for device, use in report.used.items()
    }
    absent = {host: reason for (_, host), reason in report.absent.items()}
    return [*([(USED, used)] if used else []), *([(ABSENT, absent)] if absent else [])]


class Expectation:
    """A plugin of one run: the devices expected, and what its reports have told of them."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._devices = tuple(devices)
        self._cases: Counter[str] = Counter()
        self._kernels: Counter[str] = Counter()
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._reasons: defaultdict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what one test has used; its teardown would tell it again."""
        told: dict[str, Any] = dict(report.user_properties) if report.when == "call" else {}
        for device, use in told.get(USED, {}).items():
            self._cases[device] += use["cases"]
            self._kernels[device] += use["kernels"]
            self._names[device] |= {*use["names"]}
        for host, reason in told.get(ABSENT, {}).items():
            self._reasons[host].add(reason)

    @property
    def unmet(self) -> list[str]:
        """Expected devices on which no case was judged."""
        return [device for device in self._devices if not self._cases[device]]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """A run that missed a device is red, whatever its tests say."""
        if self.unmet and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line for each expected device."""
        terminalreporter.section("devices expected of gdn-verify")
        for device in self._devices:
            met = bool(self._cases[device])
            terminalreporter.write_line(self._line(device), green=met, red=not met, bold=not met)

    def _line(self, device: str) -> str:
        if self._cases[device]:
            names = "; ".join(sorted(self._names[device]))
            return f"{device}: {self._cases[device]} cases judged, {self._kernels[device]} Triton launches, on {names}"
        reasons = sorted({reason for host in DEVICES[device] for reason in self._reasons[host]})
        why = f": {'; '.join(reasons)}" if reasons else ""
        return f"--gdn-expect {device}: FAILED, no case was judged on a {device} device{why}"
