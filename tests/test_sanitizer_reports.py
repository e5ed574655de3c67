"""Reports of compute-sanitizer become findings; those of the suite's own reads do not, and none is dropped unread."""

from __future__ import annotations

import pytest
import recorded_reports as recorded

from gdn_verify.checks.sanitizer import Mark, heard, lacking
from gdn_verify.verdict import Check, Finding

BANNER = "========= COMPUTE-SANITIZER\n"
SUMMARY = "========= ERROR SUMMARY: 9 errors\n"
TIRED = "========= Internal Sanitizer Error: it is tired\n"
SKIPPED = "========= 5 errors were skipped (error buffer overflow).\n"


def _case(launch: str = "", after: str = "", before: str = "") -> str:
    """The output of a worker up to the end of a case."""
    return f"{before}{Mark.BEGUN}\na word of the path's\n{Mark.ENTERED}\n{launch}{Mark.LEFT}\n{after}"


def _only(text: str, check: Check = Check.MEMCHECK) -> Finding:
    (finding,) = heard(text, check).case
    return finding


@pytest.mark.parametrize(
    ("report", "check", "kind", "words"),
    [
        (
            recorded.OUT_OF_BOUNDS,
            Check.MEMCHECK,
            "invalid __global__ write in far_store_kernel",
            "far_store_kernel at far_kernels.py:12: Invalid __global__ write of size 4 bytes; by thread (64,0,0) in "
            "block (0,0,0); Access to 0x7f5c00000100 is out of bounds; and is 1 bytes after the nearest allocation at "
            "0x7f5c00000000 of size 256 bytes",
        ),
        (
            recorded.OLD_FORM,
            Check.MEMCHECK,
            "invalid __shared__ read in far_load_kernel_0d1d2d",
            "far_load_kernel_0d1d2d at far_kernels.py:223: Invalid __shared__ read of size 2 bytes; by thread "
            "(224,0,0) in block (4,0,0); Address 0x1bc20 is out of bounds",
        ),
        (
            recorded.IN_A_FUNCTION,
            Check.MEMCHECK,
            "invalid __global__ read in far_load_kernel",
            "far_load_kernel at far_kernels.py:4: Invalid __global__ read of size 8 bytes; by thread (0,0,0) in block "
            "(7,0,0); Access to 0x7f5c00000003 is misaligned",
        ),
        (
            recorded.RACE,
            Check.RACECHECK,
            "race (error) in far_race_kernel",
            "far_race_kernel at far_kernels.py:46: Race reported between Write access at far_race_kernel+0x430 in "
            "far_kernels.py:46; and Read access at far_race_kernel+0x770 in far_kernels.py:55 [248 hazards]; and Read "
            "access at far_race_kernel+0x7a0 in far_kernels.py:56 [16 hazards]",
        ),
        (
            recorded.UNINITIALISED,
            Check.INITCHECK,
            "uninitialized __global__ memory read in far_scratch_kernel",
            "far_scratch_kernel at far_kernels.py:70: Uninitialized __global__ memory read of size 4 bytes; by thread "
            "(31,0,0) in block (0,0,0); Address 0x7f5c00000a00",
        ),
        (
            recorded.DIVERGENT,
            Check.SYNCCHECK,
            "barrier error detected. Divergent thread(s) in warp in far_barrier_kernel",
            "far_barrier_kernel at far_kernels.py:79: Barrier error detected. Divergent thread(s) in warp; by thread "
            "(37,0,0) in block (0,0,0)",
        ),
    ],
    ids=["global write", "before 2023.3", "in a function", "race", "uninitialised", "barrier"],
)
def test_a_report_names_its_kernel_and_its_line(report: str, check: Check, kind: str, words: str) -> None:
    """And the thread, the address, the allocation: all but the host's frames."""
    assert _only(_case(BANNER + report), check) == Finding(check, kind, words)


def test_a_kernel_without_lines_is_named_with_an_offset() -> None:
    """As code of others has none."""
    finding = _only(_case(recorded.UNINITIALISED.replace(" in far_kernels.py:70", "")), Check.INITCHECK)
    assert finding.message.startswith("far_scratch_kernel at +0x90: ")


def test_a_warning_of_a_race_is_a_finding_and_is_called_so() -> None:
    """Threads of a warp that rely on lockstep."""
    assert _only(_case(recorded.RACE.replace("Error:", "Warning:")), Check.RACECHECK).kind.startswith("race (warning)")


def test_errors_of_one_line_are_one_finding_and_of_two_lines_two() -> None:
    """However many threads there are."""
    elsewhere = recorded.OUT_OF_BOUNDS.replace(".py:12", ".py:13")
    found = heard(_case(recorded.OUT_OF_BOUNDS + recorded.NEIGHBOUR + elsewhere), Check.MEMCHECK)
    assert [finding.message.endswith("(2 such reports)") for finding in found.case] == [True, False]
    assert found.reports == 3


@pytest.mark.parametrize(
    ("report", "words"),
    [(recorded.OVERFULL, "Maximum number of hazards"), (TIRED, "it is tired"), (SKIPPED, "5 errors were skipped")],
)
def test_what_is_not_understood_is_a_finding(report: str, words: str) -> None:
    """The tool has trouble, or a form of report that is new: either way its silence proves nothing."""
    assert words in _only(_case(report), Check.RACECHECK).message


def test_a_report_that_a_mark_cuts_in_two_is_whole() -> None:
    """Two processes write to one file."""
    first, *rest = recorded.OUT_OF_BOUNDS.splitlines(keepends=True)
    finding = _only(f"{Mark.BEGUN}\n{Mark.ENTERED}\n{first}{Mark.LEFT}\n{''.join(rest)}")
    assert finding.kind == "invalid __global__ write in far_store_kernel"
    assert "by thread (64,0,0)" in finding.message


def test_a_report_behind_a_word_without_an_end_of_line_is_seen() -> None:
    """A path may print what it is at; rows of equals signs are not the tool's."""
    finding = _only(_case(f"{'=' * 40} at\n{'=' * 12}\n3 of 4 ... {recorded.OUT_OF_BOUNDS}"))
    assert finding.kind == "invalid __global__ write in far_store_kernel"


def test_a_report_without_an_end_is_a_finding() -> None:
    """A tool that was killed leaves one."""
    assert _only(_case(recorded.OUT_OF_BOUNDS[:52])).kind == "invalid __global__ write"


def test_what_stands_before_a_case_is_outside() -> None:
    """Imports, or a case that had ended."""
    found = heard(_case(before=BANNER + recorded.OUT_OF_BOUNDS), Check.MEMCHECK)
    assert (len(found.case), len(found.outside)) == (0, 1)
    assert heard(recorded.OUT_OF_BOUNDS, Check.MEMCHECK).outside == found.outside


@pytest.mark.parametrize("report", [recorded.READ_BY_TORCH, recorded.COPIED_TO_HOST], ids=["kernel", "copy"])
def test_the_suite_may_read_what_a_path_left_unwritten(report: str) -> None:
    """Padding of a result, to drop it. In the path's own code such a read is the path's."""
    after = heard(_case(after=report), Check.INITCHECK)
    assert (after.case, after.reports) == ((), 1)
    assert len(heard(_case(launch=report), Check.INITCHECK).case) == 1


def test_a_paths_kernel_is_accused_wherever_the_report_lands() -> None:
    """The tool writes when it comes to it, and the suite launches no kernels but torch's."""
    assert _only(_case(after=recorded.UNINITIALISED), Check.INITCHECK).kind.endswith("far_scratch_kernel")


def test_torch_out_of_bounds_is_told_wherever_it_happens() -> None:
    """Only what is unwritten may be read."""
    report = recorded.READ_BY_TORCH.replace("Uninitialized __global__ memory read", "Invalid __global__ read")
    assert _only(_case(after=report)).kind == "invalid __global__ read in at::native::vectorized_elementwise_kernel"


@pytest.mark.parametrize("text", [recorded.CLEAN, recorded.CLEAN_OF_RACES])
def test_nothing_lacks_where_the_tool_sums_up(text: str) -> None:
    """Nor is a summary a report."""
    assert lacking(text, 0) is None
    assert heard(_case(after=text), Check.MEMCHECK).reports == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "without a summary"),
        ("========= ERROR SUMMARY: 1,024 errors\n", "counts 1024 errors and described none"),
        ("========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)\n", "counts 2 errors"),
        (f"{SUMMARY}========= ERROR SUMMARY: 6 errors were not printed.\n", "6 errors were not printed"),
    ],
)
def test_a_silence_that_proves_nothing(text: str, words: str) -> None:
    """Cut off, or told to nobody."""
    assert words in (lacking(text, 3 if "printed" in text else 0) or "")


def test_errors_that_were_described_lack_nothing() -> None:
    """They are findings already."""
    assert lacking("========= ERROR SUMMARY: 3 errors\n", 3) is None


DISPATCHED = """\
========= Error: Race reported between Read access at warps_kernel+0x130 in far_kernels.py:92
=========     and Write access at warps_kernel+0x1830 in far_kernels.py:92 [62 hazards]
=========     and Write access at warps_kernel+0x6b90 in far_kernels.py:143 [67 hazards]
=========
"""
"""As compute-sanitizer 2025.3.1 printed it on an H200, the names changed."""
NAMED = f"{Mark.DISPATCH}warps_kernel far_kernels.py:92 far_kernels.py:143\n"


def test_triton_telling_warps_what_to_run_is_no_race() -> None:
    """It is counted among the reports: the tool has told all that it sums up."""
    told = heard(_case(DISPATCHED) + NAMED, Check.RACECHECK)
    assert (told.case, told.outside, told.reports) == ((), (), 1)


@pytest.mark.parametrize(
    ("report", "named"),
    [
        (DISPATCHED, ""),
        (DISPATCHED, NAMED.replace("warps_kernel", "another_kernel")),
        (DISPATCHED.replace(".py:143", ".py:144"), NAMED),
        (DISPATCHED.replace(".py:92", ".py:143"), NAMED),
        (DISPATCHED.replace("and Write access at warps_kernel+0x6b90 in far_kernels.py:143", "and more"), NAMED),
    ],
)
def test_any_other_race_of_a_specialised_kernel_counts(report: str, named: str) -> None:
    """One line of the author's among the accesses is enough, or one that is not understood."""
    assert len(heard(_case(report) + named, Check.RACECHECK).case) == 1
