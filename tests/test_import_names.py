"""A user's own `cases` and `oracles` packages and this project's live side by side."""

import os
import subprocess
import sys
from pathlib import Path

import gdn_verify

SCRIPT = """
import cases, oracles
import gdn_verify.cases.contract, gdn_verify.oracles
assert (cases.OWNER, oracles.OWNER) == ("user", "user")
assert gdn_verify.cases.contract.Geometry(1, 1, 8, 8).S == 1
assert gdn_verify.cases is not cases
assert "contract" not in vars(cases)
import sys
assert "cases.contract" not in sys.modules
"""


def test_a_users_own_packages_do_not_collide(tmp_path: Path) -> None:
    """In a repository with top-level `cases` and `oracles`, those names stay the user's."""
    for name in ("cases", "oracles"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWNER = 'user'\n", encoding="utf-8")
    # The user's folder comes first, as it does when python or pytest is started there.
    tree = str(Path(gdn_verify.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), tree))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_brings_its_own_copies() -> None:
    """`gdn_verify.cases` is found inside the package, not through a top-level name."""
    from gdn_verify.cases import contract

    assert contract.__name__ == "gdn_verify.cases.contract"
    assert Path(contract.__file__).is_relative_to(Path(gdn_verify.__file__).parent)
