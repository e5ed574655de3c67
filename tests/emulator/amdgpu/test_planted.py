"""A wrong semantic is noticed: twenty instructions compiled with a defect each fail what the right ones pass."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import pytest
from references import REFERENCES
from test_computing import same
from values import tries

from gdn_verify.emulator.amdgpu.bits import fma32
from gdn_verify.emulator.amdgpu.dispatch import vector_function
from gdn_verify.emulator.amdgpu.instructions import OPERATIONS

DEFECTS: dict[str, Callable[..., Any]] = {
    "v_add_u32": lambda a, b: a + b + 1 if a == 0xFFFFFFFF else a + b,
    "v_sub_co_u32": lambda a, b: (a - b, b >= a),
    "v_addc_co_u32": lambda a, b, m: (a + b, a + b > 0xFFFFFFFF),
    "v_lshlrev_b32": lambda a, b: b << min(a, 31),
    "v_ashrrev_i32": lambda a, b: (b & 0xFFFFFFFF) >> (a & 31),
    "v_bfe_i32": lambda a, b, c: (a >> (b & 31)) & ((1 << (c & 31)) - 1),
    "v_perm_b32": lambda a, b, c: b,
    "v_alignbit_b32": lambda a, b, c: b >> (c & 31),
    "v_mul_hi_u32": lambda a, b: (((a ^ 0x80000000) - 0x80000000) * b) >> 32,
    "v_mad_u32_u24": lambda a, b, c: a * b + c,
    "v_cndmask_b32": lambda a, b, m: a if m else b,
    "v_cmp_gt_i64": lambda a, b: a >= b,
    "v_cmp_lt_u64": lambda a, b: np.int64(a) < np.int64(b),
    "v_cmp_o_f32": lambda a, b: a == a,
    "v_max_f32": lambda a, b: a if a > b else b,
    "v_min_f32": lambda a, b: a if a < b else b,
    "v_fma_f32": lambda a, b, c: a * b + c,
    "v_fmac_f32": lambda a, b, old: fma32(a, b, -old),
    "v_ldexp_f32": lambda a, b: a * np.float32(2.0) ** b,
    "v_cvt_u32_f32": lambda a: np.int64(a),
}
"""Mistakes that one makes: a carry forgotten, signs taken for none, an edge, NaN, two roundings for one."""


def _functions() -> dict[bool, Any]:
    """Compiled once, right and wrong; each as `function(op, a, b, c, mask, out, flag)`."""
    right = [OPERATIONS[name] for name in DEFECTS]
    wrong = [replace(OPERATIONS[name], function=function) for name, function in DEFECTS.items()]
    compiled = {}
    for planted, operations in ((False, right), (True, wrong)):
        namespace: dict[str, Any] = {"vector": vector_function(operations)}
        exec("def run(op, a, b, c, mask, out, flag):\n vector(op, a, b, c, mask, 0, out, flag)", namespace)
        compiled[planted] = numba.njit(error_model="numpy")(namespace["run"])
    return compiled


@pytest.fixture(scope="module")
def functions() -> dict[bool, Any]:
    return _functions()


def _agrees(function: Any, place: int, name: str) -> bool:
    reference = REFERENCES[name]
    kinds = reference.arguments.replace("V", "m")
    kinds = kinds[:-1] + kinds[0] if reference.old else kinds
    items = tries(kinds, zlib.crc32(name.encode()))
    out, flag = np.zeros(64, np.uint64), np.zeros(64, np.bool_)
    for start in range(0, len(items), 64):
        batch = (items[start : start + 64] * 64)[:64]
        columns = [np.array(column, np.uint64) for column in zip(*batch, strict=True)]
        mask = columns.pop().astype(np.bool_) if "m" in kinds else np.zeros(64, np.bool_)
        third = columns[-1] if reference.old else columns[2] if len(columns) > 2 else columns[0]
        function(place, columns[0], columns[min(1, len(columns) - 1)], third, mask, out, flag)
        for lane, values in enumerate(batch):
            wanted = reference.function(*values)
            value, bit = wanted if len(reference.results) == 2 else (wanted, wanted)
            if reference.results != "m":
                width = 0xFFFFFFFFFFFFFFFF if reference.results[0] in "qdp" else 0xFFFFFFFF
                if not same(int(out[lane]) & width, value, reference.results[0], reference.close):
                    return False
            if "m" in reference.results and bool(flag[lane]) != bool(bit):
                return False
    return True


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_noticed(functions: dict[bool, Any], name: str) -> None:
    """The right function passes, the wrong one does not."""
    place = list(DEFECTS).index(name)
    assert _agrees(functions[False], place, name)
    assert not _agrees(functions[True], place, name)
