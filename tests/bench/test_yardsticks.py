"""`touch` really passes over every state that a decode reads and writes, and over no other; `null` over none."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import yardsticks_interpreted

from gdn_verify.cases.contract import DType
from gdn_verify.emulator import interpreter

pytest.importorskip("triton", reason="the yardsticks are Triton kernels")


def test_touch_negates_what_rows_name_and_null_nothing() -> None:
    """For rows of one token, and of drafts, whose S slots are written from the one that is read."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=interpreter.install) as pool:
        for num_spec, state in ((0, DType.F32), (2, DType.BF16)):
            found = pool.submit(yardsticks_interpreted.changes, num_spec, state).result(timeout=120)
            assert found == dict.fromkeys(("null", "touch 16384", "touch 8192", "touch 4096"), "")


def test_a_prefills_touch_passes_over_all_of_it() -> None:
    """Over rows of any length, with states to read and without; `null` over nothing."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=interpreter.install) as pool:
        for fresh in (False, True):
            found = pool.submit(yardsticks_interpreted.prefill_changes, fresh).result(timeout=120)
            assert found == dict.fromkeys(("null", "touch 8192", "touch 4096", "touch 2048"), "")
