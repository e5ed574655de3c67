"""AMD's chips as hosts: asked for by name alone, never taken for cards, and right about one kernel of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdn_verify.hosts import DEFAULT, EMULATED_AMD, GPUS, HOSTS, label
from gdn_verify.hosts.worker import Worker

SERVICE = "amdgpu_launches:serve"


def test_asked_for_by_name_only() -> None:
    """A compile of each geometry, and a machine that is compiled first, are not what everybody waits for."""
    assert set(EMULATED_AMD) <= set(HOSTS)
    assert not set(EMULATED_AMD) & {*DEFAULT, *GPUS}


def test_a_table_says_that_it_is_emulated() -> None:
    assert [label(name) for name in ("gfx942", "rocm")] == ["gfx942 (emulated)", "rocm"]


@pytest.mark.slow  # the machine is compiled first, a minute of work
@pytest.mark.parametrize("chip", EMULATED_AMD)
@pytest.mark.parametrize("kernel", ["add", "sums", "products", "counts"])
def test_launches(monkeypatch: pytest.MonkeyPatch, chip: str, kernel: str) -> None:
    """Triton's own launch of a kernel, by its machine code: what came of it, and what was found."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Worker(HOSTS[chip], SERVICE) as worker:
        worker.send(kernel)
        assert worker.receive(timeout=600) == "right"
