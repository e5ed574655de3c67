"""What checks are said to see: a description names a bug of the catalogue exactly if a test plants it and shows that.

Who plants what is in `gdn_verify.mutants.evidence`; the tests that it names hold their own lists against it.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdn_verify import checks
from gdn_verify.cases.catalogue import catalogue
from gdn_verify.mutants.evidence import shown

BUGS = {bug.slug for bug in catalogue()}
FOLDER = Path(next(iter(checks.__path__)))
MODULES = sorted(str(file.relative_to(FOLDER).with_suffix("")) for file in FOLDER.rglob("*.py"))
PAGE = Path(__file__).resolve().parents[1] / "docs" / "bugs.md"


def described(module: str) -> str:
    """All descriptions in a module: its own, and those of its functions and classes."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text())
    nodes = (node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)))
    return "\n".join(ast.get_docstring(node) or "" for node in nodes)


@pytest.mark.parametrize("module", MODULES)
def test_a_check_names_the_bugs_that_it_is_shown_to_see(module: str) -> None:
    """Those, and no other."""
    words = {word.strip(".,;:()'`") for word in described(module).split()}
    assert words & BUGS == {line.bug for line in shown() if line.check == module}


def test_what_is_shown_is_seen_by_a_check() -> None:
    """No name is made up."""
    assert {line.check for line in shown()} <= set(MODULES)


def table() -> Iterator[str]:
    """A line a bug: who sees it, within how many cases, and as what it is planted."""
    seen: dict[str, dict[str, int]] = defaultdict(dict)
    for line in shown():
        seen[line.bug][line.check] = max(line.within, seen[line.bug].get(line.check, 0))
    yield "| bug | seen by, within cases | `--plant` |"
    yield "| --- | --- | --- |"
    for bug in catalogue():
        if bug.slug in seen:
            checks = ", ".join(f"{check} {cases}" for check, cases in seen[bug.slug].items())
            yield f"| {bug.slug} | {checks} | {', '.join(f'`{mutant.name}`' for mutant in bug.mutants)} |"


def test_the_page_shows_a_whole_file() -> None:
    """As an example of what it takes to add a bug: one of the catalogue's, and one that an edit plants."""
    text = PAGE.read_text().split("```toml\n")[1].split("```")[0]
    slug = tomllib.loads(text)["slug"]
    assert text == (PAGE.parents[1] / "cases" / "bugs" / f"{slug}.toml").read_text()
    assert "[[mutant.edit]]" in text


def test_the_page_says_what_is_shown() -> None:
    """`docs/bugs.md` has the table; on a failure this is what it must be."""
    lines = [*table()]
    page = PAGE.read_text().splitlines()
    start = page.index(lines[0])
    assert page[start : start + len(lines)] == lines, "\n".join(lines)
    assert not page[start + len(lines)].strip()
