"""Single defects planted in copies of paths: the gate turns red, and by the check that is meant for them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import fake_paths
import pytest
from hunting import Hunter

from gdn_verify.cases.contract import Kind
from gdn_verify.mutants import PLANTED
from gdn_verify.mutants.evidence import PLANTED_BUGS
from gdn_verify.paths import Path, find
from gdn_verify.verdict import Check

VALUES, MEMORY = frozenset({Check.VALUES}), frozenset({Check.MEMORY})
EXPECTED = {
    "wrong_head_map": VALUES,
    "dropped_decay": VALUES,
    "neighbour_slot": VALUES | MEMORY,  # a dense path has no neighbour: its states are swapped between rows
    "unwritten_element": MEMORY,
    "byte_past_the_end": MEMORY,
    "beta_in_bfloat16": VALUES,
    "beta_times_0_999": VALUES | {Check.BIAS},  # seen at once where a state is stored in float32
    "state_ignored_on_second_chunk": VALUES,
    "dtype_of_the_first_launch": VALUES,
}
HOSTS = {
    "fallback": "cpu",
    "transformers-recurrent": "cpu",
    "transformers-chunk": "cpu",
    "fla-recurrent": "interpreter",
    "fla-chunk": "interpreter",
    "chunk-delta": "interpreter",
    "chunk-delta-exact": "interpreter",
}
OPAQUE = "fake-opaque-bf16"


@pytest.fixture(scope="module")
def hunter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunter]:
    """Workers that know the fakes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", fake_paths.install(tmp_path_factory.mktemp("site")))
        hunter = Hunter()
        yield hunter
        hunter.close()


def _kind(defect: str) -> Kind:
    """The launches in which a defect shows: a second chunk needs a prompt."""
    return Kind.PREFILL if defect == "state_ignored_on_second_chunk" else Kind.DECODE


def _available(name: str) -> Path:
    path = find(name)
    if missing := path.missing(HOSTS[name]):
        pytest.skip(str(missing))
    return path


def _is_caught(hunter: Hunter, name: str, defect: str) -> None:
    caught = hunter.hunt(_available(name), HOSTS[name], _kind(defect), defect, EXPECTED[defect])
    assert caught.finding, f"{defect} in {name}: {caught.cases} cases agree with the oracle"


def test_all_planted_defects_are_known_by_name() -> None:
    """The names that the command line offers are the functions that plant, and each has an expectation here."""
    from gdn_verify.mutants import planted

    functions = (f for _, f in inspect.getmembers(planted, inspect.isfunction) if f.__module__ == planted.__name__)
    public = {f.__name__ for f in functions if not f.__name__.startswith("_")}
    assert public == set(PLANTED) == set(EXPECTED)


@pytest.mark.parametrize(
    ("path", "defect"),
    [
        ("fallback", "neighbour_slot"),
        ("fallback", "unwritten_element"),
        ("fallback", "byte_past_the_end"),
        ("fallback", "beta_in_bfloat16"),
        ("transformers-recurrent", "wrong_head_map"),
        ("transformers-recurrent", "beta_times_0_999"),
        ("transformers-chunk", "state_ignored_on_second_chunk"),
        ("fla-recurrent", "dropped_decay"),
        ("chunk-delta", "state_ignored_on_second_chunk"),
        ("fallback", "dtype_of_the_first_launch"),
        ("fla-chunk", "dtype_of_the_first_launch"),
    ],
)
def test_a_planted_defect_is_caught(hunter: Hunter, path: str, defect: str) -> None:
    """Each defect in one path; the whole matrix is marked slow."""
    _is_caught(hunter, path, defect)


@pytest.mark.parametrize("defect", PLANTED_BUGS)
def test_a_bug_of_the_catalogue_is_caught_early(hunter: Hunter, defect: str) -> None:
    """In as many cases as `docs/bugs.md` says, or fewer."""
    check, within = PLANTED_BUGS[defect]
    caught = hunter.hunt(find("fallback"), "cpu", _kind(defect), defect, frozenset({Check(check)}))
    assert caught.finding
    assert caught.cases <= within


def test_a_pooled_path_is_caught_writing_to_its_neighbour(hunter: Hunter) -> None:
    """The memory check itself sees the slot that no live row names."""
    assert hunter.hunt(find("fallback"), "cpu", Kind.DECODE, "neighbour_slot", MEMORY).finding


def test_a_bias_below_the_rounding_is_caught_over_many_cases(hunter: Hunter) -> None:
    """β off by 0.1 % in a path that stores bfloat16 alone and shows no stage: no case tells, all of them do."""
    path = fake_paths.fake(OPAQUE)
    assert hunter.hunt(path, "cpu", Kind.DECODE, "beta_times_0_999", frozenset({Check.BIAS})).finding


@pytest.mark.slow
@pytest.mark.parametrize("defect", PLANTED)
@pytest.mark.parametrize("path", HOSTS)
def test_every_defect_is_caught_in_every_path(hunter: Hunter, path: str, defect: str) -> None:
    """The whole matrix, under the profile `gate`."""
    _is_caught(hunter, path, defect)
