"""A wheel has the sources: without them nothing compiles, and only a user would see it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import gdn_verify

ROOT = Path(gdn_verify.__file__).parents[1]
FOLDER = Path("gdn_verify/kernels/cuda")
SUFFIXES = (".cu", ".cuh", ".h", ".cpp")


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not run from a source tree")
@pytest.mark.skipif(find_spec("setuptools") is None, reason="no setuptools to build a wheel with")
def test_a_wheel_has_the_sources(tmp_path):
    """Every file of both folders, as it is in the tree, which the build leaves alone."""
    copy = tmp_path / "tree"
    left = shutil.ignore_patterns(".git", "build", "*.egg-info", "tests", "docs", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left)
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(tmp_path)]
    done = subprocess.run([*words, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    sources = [path.relative_to(ROOT) for path in sorted((ROOT / FOLDER).rglob("*")) if path.suffix in SUFFIXES]
    assert len(sources) == 18
    with zipfile.ZipFile(wheel) as whole:
        assert all(whole.read(str(path)) == (ROOT / path).read_bytes() for path in sources)
