"""Workflow files are ready to use: each calls one tox environment that exists, and names nothing of a machine."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github" / "workflows"
NAMES = ("cpu", "cuda", "rocm")
OURS = re.compile(r"(?:^|[\s:=\"'])/(?!/)\w+|https?://|\b\d+\.\d+\.\d+\.\d+\b")
"""An absolute path, an address, a number of a machine."""


def _tox() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "tox.ini", encoding="utf-8")
    return parser


def _called(workflow: dict[str, Any]) -> list[str]:
    """The tox environments of a workflow's steps."""
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return [name for step in steps for name in re.findall(r"tox run -e (\S+)", step.get("run", ""))]


def _problems(text: str) -> list[str]:
    """What is wrong with a workflow file."""
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(text)
    called, known = _called(workflow), {section.removeprefix("testenv:") for section in _tox().sections()} | {"py"}
    found = [f"no tox environment {name}" for name in called if name not in known]
    found += [] if len(called) == 1 else [f"calls tox {len(called)} times"]
    found += [f"no tools of a machine: {match}" for match in OURS.findall(text)]
    jobs = workflow["jobs"].values()
    hosted = any("self-hosted" in job["runs-on"] for job in jobs)
    triggers = workflow[True]  # YAML 1.1 reads `on` so
    found += ["a stranger's code on one's own machine"] if hosted and "pull_request" in triggers else []
    found += [] if all(job.get("timeout-minutes") for job in jobs) else ["may run for hours"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_calls_one_environment(name: str) -> None:
    """One call, of an environment that tox knows; a runner of one's own runs no pull request."""
    assert _problems((WORKFLOWS / f"{name}.yml").read_text(encoding="utf-8")) == []


def test_all_workflows_are_looked_at() -> None:
    """A new one cannot hide."""
    assert sorted(path.stem for path in WORKFLOWS.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("-e cuda", "-e cudas", "no tox environment cudas"),
        ("python -m tox run -e cuda", "pytest", "calls tox 0 times"),
        ("python -m pip", "/opt/python/bin/pip", "no tools of a machine"),
        ("[push, workflow_dispatch]", "[push, pull_request]", "a stranger's code"),
        ("    timeout-minutes: 120\n", "", "may run for hours"),
    ],
)
def test_a_workflow_that_is_not_ready_is_seen(old: str, new: str, problem: str) -> None:
    """The planted defects."""
    text = (WORKFLOWS / "cuda.yml").read_text(encoding="utf-8")
    assert old in text
    assert any(found.startswith(problem) for found in _problems(text.replace(old, new)))


@pytest.mark.parametrize("name", ["cuda", "rocm"])
def test_a_cards_environment_is_pytest_that_expects_it(name: str) -> None:
    """`pytest -n auto` is all that is called, the expectation is the environment's own, and no torch is pinned."""
    tox, section = _tox(), f"testenv:{name}"
    assert tox[section]["commands"] == f"pytest -n auto --gdn-expect {name} {{posargs}}"
    deps = tox["testenv:cuda"]["deps"] if "{[" in tox[section]["deps"] else tox[section]["deps"]
    assert deps == "{env:GDN_TORCH:torch}"
