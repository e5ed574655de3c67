"""Cpu tensors are computed by the emulated kernels, which a folder of the session keeps."""

from __future__ import annotations

import pytest

from gdn_verify.kernels.cuda import emulate, store


@pytest.fixture(scope="session")
def kept_here(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Nothing of the user's own is read, or left behind."""
    return str(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch, kept_here: str) -> None:
    """The variables, and a skip that says why where no C++ compiler is."""
    monkeypatch.setenv(emulate.VARIABLE, "1")
    monkeypatch.setenv(store.VARIABLE, kept_here)
    if reason := emulate.compiler_missing():
        pytest.skip(reason)
