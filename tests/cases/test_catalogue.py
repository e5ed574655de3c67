"""The catalogue of bugs: every file tells what it must; one that does not is refused by what is wrong with it."""

from __future__ import annotations

from dataclasses import fields, replace
from importlib import import_module

import pytest

from gdn_verify.cases.catalogue import HOSTS, IN_MEMORY, CatalogueError, Edit, catalogue, collected, read
from gdn_verify.cases.situations import NAMES
from gdn_verify.cases.topics import topic
from gdn_verify.cases.triggers import OUT_OF_REACH, TRIGGERS
from gdn_verify.mutants import MUTANTS, planter_of, sources
from gdn_verify.mutants.catalogued import changes
from gdn_verify.paths import find_subject
from gdn_verify.paths.relay import topics
from gdn_verify.service import planter

FILE = '''
slug = "an-edit"
tier = "K"
class = "gates"
reference = "somewhere#1"
component = "scan"
cause = """
A sum
is one off.
"""
symptom = "Wrong numbers."
trigger = "Any case."
caught_by = "The oracle."
cpu = "yes"
situation = "chunk tail"

[[mutant]]
name = "one_off"
what = "The sum is one off."
path = "chunk-delta"
host = "interpreter"
kinds = ["prefill", "mixed"]

[[mutant.edit]]
file = "triton/scan_kernel.py"
right = "a + 1"
wrong = """
a + 2
  + 0"""
'''
MODULE = 'module = "recurrence"'
EDIT = FILE[FILE.index("[[mutant.edit]]") :]


def changed(right: str, wrong: str) -> str:
    """The file with one place changed."""
    assert FILE.count(right) == 1
    return FILE.replace(right, wrong)


def test_a_file_is_read_as_it_says() -> None:
    """Lines of a text are joined, those of an edit stand as they are."""
    bug = read("an-edit.toml", FILE)
    assert (bug.class_, bug.cause) == ("gates", "A sum is one off.")
    assert bug.mutants[0].kinds == ("prefill", "mixed")
    assert bug.mutants[0].edits == (Edit("triton/scan_kernel.py", "a + 1", "a + 2\n  + 0"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FILE + "=", "Invalid"),
        (changed('tier = "K"', 'tier = "K"\nseed = "x"'), "unknown field 'seed'; known are slug, tier, class"),
        (changed('path = "chunk-delta"', 'path = "chunk-delta"\nby = "x"'), "mutant 1: unknown field 'by'"),
        (FILE + 'line = "3"\n', "mutant 1: edit 1: unknown field 'line'; known are file, right, wrong"),
        (changed('component = "scan"', ""), "component is missing"),
        (changed('class = "gates"', ""), ": class is missing"),
        (changed('what = "The sum is one off."', ""), "mutant 1: what is missing"),
        (changed('right = "a + 1"', ""), "mutant 1: edit 1: right is missing"),
        (changed('component = "scan"', 'component = " "'), "component is empty"),
        (changed('component = "scan"', "component = 3"), "component is 3; give a text"),
        (changed('slug = "an-edit"', 'slug = "another"'), "slug is 'another'; a file has the name of its slug"),
        (changed('tier = "K"', 'tier = "Q"'), "tier is 'Q', which is none of K, M, S, T"),
        (changed('class = "gates"', 'class = "gate"'), "class is 'gate', which is none of padding, "),
        (changed('cpu = "yes"', 'cpu = "perhaps"'), "cpu is 'perhaps', which is none of yes, partly, no"),
        (changed('situation = "chunk tail"', ""), "one of situation and out_of_reach"),
        (
            changed('situation = "chunk tail"', 'situation = "x"\nout_of_reach = "y"'),
            "one of situation and out_of_reach",
        ),
        (changed('cpu = "yes"', 'cpu = "yes"\nnot_planted = "no"'), "give mutants, or with not_planted the reason"),
        (FILE[: FILE.index("[[mutant]]")], "give mutants, or with not_planted the reason"),
        (changed('"one_off"', '"one off"'), "name is 'one off', which is no identifier"),
        (changed(EDIT, ""), "give a module or edits"),
        (changed("[[mutant.edit]]", f"{MODULE}\n[[mutant.edit]]"), "give a module or edits"),
        (changed('["prefill", "mixed"]', '"prefill"'), "kinds is 'prefill'; give a list"),
        (changed('["prefill", "mixed"]', "[]"), "kinds is empty"),
        (changed('["prefill", "mixed"]', '["prefil"]'), "kinds is 'prefil', which is none of decode, "),
        (changed('"interpreter"', '"tpu"'), "host is 'tpu', which is none of cpu, interpreter, cuda, rocm"),
        (changed('"a + 1"', '"a + 2\\n  + 0"'), "right and wrong are the same"),
    ],
)
def test_a_file_that_cannot_be_is_refused(text: str, words: str) -> None:
    """The message names the file and what is wrong with it."""
    with pytest.raises(CatalogueError) as raised:
        read("an-edit.toml", text)
    assert str(raised.value).startswith("an-edit.toml: ")
    assert words in str(raised.value)


def test_two_mutants_of_one_name_are_refused() -> None:
    """Whether in one file or in two."""
    bug = read("an-edit.toml", FILE)
    with pytest.raises(CatalogueError, match="mutant 'one_off' is there 2 times: a, b; rename all but one"):
        collected([replace(bug, slug="b"), replace(bug, slug="a")])
    with pytest.raises(CatalogueError, match="2 times: an-edit, an-edit"):
        collected([replace(bug, mutants=bug.mutants * 2)])


def test_all_files_are_read() -> None:
    """Ninety or more, in order, each of its own name, with nothing left empty but what may be left out."""
    slugs = [bug.slug for bug in catalogue()]
    assert slugs == sorted(set(slugs))
    assert len(slugs) >= 90
    free = {"cpu_note", "situation", "out_of_reach", "not_planted", "mutants"}
    assert all(getattr(bug, field.name) for bug in catalogue() for field in fields(bug) if field.name not in free)


def test_triggers_are_those_of_the_files() -> None:
    """Each bug has a situation that cases are searched for, or a reason why none shows it."""
    assert {bug.slug: bug.situation or bug.out_of_reach for bug in catalogue()} == {**TRIGGERS, **OUT_OF_REACH}
    assert set(TRIGGERS.values()) <= NAMES


def test_what_a_processor_shows_is_planted_where_one_runs() -> None:
    """A bug of kernels or launches that needs no card has a mutant that needs none; the others have a reason."""
    for bug in catalogue():
        in_memory = [mutant for mutant in bug.mutants if mutant.host in IN_MEMORY]
        assert in_memory or bug.cpu != "yes" or bug.tier not in "KM", bug.slug
        assert in_memory or bug.cpu != "partly", bug.slug


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_planted_where_it_says(name: str) -> None:
    """Its path is there, runs on its host and takes its kinds; its function has the catalogue's words."""
    mutant = MUTANTS[name]
    subject = find_subject(mutant.path)
    assert mutant.host in subject.hosts
    assert mutant.host in HOSTS
    assert {topic(kind) for kind in mutant.kinds} <= {*topics(subject)}
    assert planter(planter_of(name)) is not None
    if mutant.module:
        function = getattr(import_module(f"gdn_verify.mutants.{mutant.module}"), name)
        assert function.__doc__ == mutant.what


@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if mutant.edits])
def test_what_an_edit_changes_stands_once_in_its_file(name: str) -> None:
    """Or there is no telling what is planted (`sources.changed` raises); what comes of a file's edits is Python."""
    for file, text in sources.changed(*changes(MUTANTS[name].edits)).items():
        compile(text, file, "exec")
