"""Published tests of AITER, FLA and FlashInfer as `Rule`s: distributions, tolerances and where they stand.

Numbers, names and lines are those of the sources at the commits named; no code is taken over.
"""

from __future__ import annotations

from dataclasses import replace

from gdn_verify.cases.contract import DType, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.mutants import draws
from gdn_verify.mutants.comparisons import Close, Equal, Ratio
from gdn_verify.mutants.published import NAN, Judge, Kernel, Part, Rule, Setting, rows_of

F32, BF16, F16 = DType.F32, DType.BF16, DType.F16
AITER, FLA, FLASHINFER = "@e4048607", "@bc3b101d", "@fb28d724"
NORM, DECODE = frozenset({Part.NORM}), frozenset({Part.NORM, Part.SLOTS})


def _square(H: int, HV: int, D: int) -> Geometry:
    return Geometry(H, HV, D, D)


def _both(rtol: float, atol: float) -> Judge:
    return Judge(Close(rtol, atol), Close(rtol, atol))


_SWEEP = (
    Setting("T63 D64 float16", draws.aiter_rearranged(1), _square(1, 1, 64), rows_of([63]), F16, F16, scale=1.0),
    Setting("D60 float16", draws.aiter_rearranged(1), _square(2, 2, 60), rows_of([96]), F16, F16, scale=1.0),
    Setting("D128 HV/H 4 float16", draws.aiter_rearranged(0.1), _square(2, 8, 128), rows_of([96]), F16, F16, scale=1.0),
    Setting("D64 scale 0.1 float16", draws.aiter_rearranged(1), _square(2, 2, 64), rows_of([96]), F16, F16, scale=0.1),
    Setting(
        "D128 HV/H 2 bfloat16", draws.aiter_rearranged(1), _square(2, 4, 128), rows_of([96]), BF16, BF16, scale=1.0
    ),
    Setting("D16 bfloat16, no norm", draws.aiter_plain, _square(4, 4, 16), rows_of([8]), BF16, BF16, normalised=False),
)
_AITER_SWEEP = Rule(
    name="aiter-rearranged",
    project="AITER",
    test="test_fused_rearrange_sigmoid_gdr_sweep",
    reference=f"op_tests/triton_tests/test_fused_rearrange_sigmoid_gdr.py:86-215 {AITER}",
    inputs="q, k, v, states 0.05·N(0, 1); one of twelve launches, without a norm of q and k, N(0, 1)",
    comparison="output and state: rtol 0.03, atol 0.08 in float16; 0.05, 0.1 in bfloat16",
    reduced="6 of 12 launches; T 500-2048 to 96, H 3-4 to 2; that without a norm runs on the fallback alone",
    kernel=Kernel.RECURRENT,
    trials=tuple((s, _both(0.05, 0.1) if s.activation is BF16 else _both(0.03, 0.08)) for s in _SWEEP),
    parts=NORM,
)

_PACKED = Setting(
    "valid", draws.aiter_packed, _square(2, 8, 128), rows_of([1] * 4, [5, 0, 6, 2]), BF16, BF16, slots=7
)  # fmt: skip
_MIXED = replace(
    _PACKED,
    label="mixed, strided, id -1",
    rows=rows_of([1] * 6, [0, None, None, 4, None, 6]),
    shown=Presentation(row_pad=64, slot_pad=64, table_pad=1),
)
_BEYOND = replace(_MIXED, label="mixed, strided, id P", shown=replace(_MIXED.shown, sentinel=7))
_EXACT_REST = Judge(Close(1e-2, 1e-3), Close(1e-2, 1e-3), others=Equal(), pads=Equal())
_AITER_PACKED = Rule(
    name="aiter-packed-decode",
    project="AITER",
    test="test_valid_accuracy_alias_and_untouched_slots, test_mixed_indices_and_strided_rows",
    reference=f"op_tests/test_gdr_decode_packed_bf16.py:20-239 {AITER}",
    inputs="q, k, v 0.1·N(0, 1), states 0.02·N(0, 1), A_log U[-3, -1); ids -1, P and 2³¹-1 pad",
    comparison="output and state: rtol 1e-2, atol 1e-3; other slots: the same bits; padded rows: zeros",
    reduced="H 8 to 2, HV 32 to 8; one kind of padded id a launch, 17 and 2³¹-1 left out",
    kernel=Kernel.DECODE,
    trials=tuple((s, _EXACT_REST) for s in (_PACKED, _MIXED, _BEYOND)),
    parts=DECODE | {Part.PACKING},
)

_CHUNKS = (
    Setting("T75 D64, decay e⁻⁴⁷", draws.fla_chunk(0.01), _square(2, 2, 64), rows_of([75] * 2), F16, scale=1.0),
    Setting("D60", draws.fla_chunk(1), _square(2, 2, 60), rows_of([100] * 2), F16, scale=1.0),
    Setting("D64, half no decay", draws.fla_chunk(1, 0.5), _square(2, 2, 64), rows_of([100] * 2), F16, scale=0.1),
    Setting("D64, no decay", draws.fla_chunk(1, 1.0), _square(2, 2, 64), rows_of([128]), F16, scale=0.1),
    Setting("D64 HV/H 4", draws.fla_chunk(0.1), _square(2, 8, 64), rows_of([128]), F16, scale=1.0),
    Setting("D128, slow decay", draws.fla_chunk(10), _square(2, 2, 128), rows_of([192]), F16, scale=0.1),
)


def _ratio(limit: float, warns: bool = False) -> Judge:
    return Judge(Ratio(limit, warns), Ratio(limit, warns), unwritten=NAN, scratch=NAN)


_FLA_CHUNK = Rule(
    name="fla-chunk",
    project="FLA",
    test="test_chunk",
    reference=f"tests/ops/test_gdn.py:108-200, fla/utils/_testing.py:22-41, tests/conftest.py:69-148 {FLA}",
    inputs="q, k, v U[0, 1), g = logsigmoid(U[0, 1))/n, n 0.01 to 10, some g 0; initial states zero; NaN in new memory",
    comparison="output and state: rms ratio below 0.005; gradients are not measured here",
    reduced="6 of 11 launches; T 256-2048 to 100-192, H to 2, B to 1-2; mask 1.0 at D 64, not 128",
    kernel=Kernel.CHUNK,
    trials=tuple((s, _ratio(0.005)) for s in _CHUNKS),
    parts=NORM,
)
_FLA_CHUNK_CI = replace(
    _FLA_CHUNK,
    name="fla-chunk-ci",
    test="test_chunk, FLA_CI_ENV=1",
    comparison="the same, but where the ratio is below 0.01 or no error above 0.3 it warns and passes",
    trials=tuple((s, _ratio(0.005, True)) for s in _CHUNKS),
)
_STEPS = (
    Setting("T63 D64", draws.fla_recurrent(1), _square(1, 1, 64), rows_of([63]), F32, scale=1.0),
    Setting("D60", draws.fla_recurrent(1), _square(2, 2, 60), rows_of([64] * 2), F32, scale=1.0),
    Setting("D128 HV/H 4, fast decay", draws.fla_recurrent(0.1), _square(2, 8, 128), rows_of([64]), F32, scale=1.0),
    Setting("D128, slow decay", draws.fla_recurrent(10), _square(2, 2, 128), rows_of([128]), F32, scale=1.0),
    Setting("D64 scale 0.1", draws.fla_recurrent(1), _square(2, 2, 64), rows_of([64]), F32, scale=0.1),
    Setting("D128 HV/H 2 float16", draws.fla_recurrent(10), _square(2, 4, 128), rows_of([64]), F16, scale=1.0),
)
_FLA_RECURRENT = replace(
    _FLA_CHUNK,
    name="fla-recurrent",
    test="test_fused_recurrent",
    reference=f"tests/ops/test_gdn.py:48-105, fla/utils/_testing.py:22-41, tests/conftest.py:69-148 {FLA}",
    inputs="q, k, v, states N(0, 1), g = logsigmoid(U[0, 1))/n, n 0.1 to 10; NaN in new memory",
    comparison="output and state: rms ratio below 0.002",
    reduced="6 of 8 launches; T 500-2048 to 64-128, H to 2, B to 1-2",
    kernel=Kernel.RECURRENT,
    trials=tuple((s, _ratio(0.002)) for s in _STEPS),
)

_Q = 1.728
"""Mean norm of FlashInfer's q, (128·(0.25²/3 + 0.05²))^½: it is not normalised there, and so goes into the scale."""


def _prefill(label: str, heads: tuple[int, int], lengths: list[int], dtype: DType, scale: float, *has: bool) -> Setting:
    rows = rows_of(lengths, fresh=True)
    return Setting(label, draws.flashinfer_prefill(*has), _square(*heads, 128), rows, dtype, scale=scale * _Q)


_AUTO = 128**-0.5
_FULL = (
    _prefill("bfloat16, auto scale", (2, 4), [64, 128, 192], BF16, _AUTO, True, True),
    _prefill("float16, decay alone", (3, 3), [128], F16, 1.0, True, False),
    _prefill("bfloat16, β alone", (1, 1), [64], BF16, 1.0, False, True),
    _prefill("float16, auto scale", (1, 1), [128], F16, _AUTO, True, True),
)
_FILLED = Judge(Close(1e-2, 1e-2), Close(1e-3, 5e-3), unwritten=NAN)
_FINER = Judge(Close(1e-3, 2e-3), Close(1e-4, 1e-3), unwritten=NAN)
_FLASHINFER_PREFILL = Rule(
    name="flashinfer-prefill",
    project="FlashInfer",
    test="test_prefill_kernel_basic",
    reference=f"tests/gdn/test_prefill_delta_rule.py:75-293, tests/gdn/conftest.py:32-53 {FLASHINFER}",
    inputs="vectors U(±0.25) about 0.05·N(0, 1), k of norm 1, decay and β U[0, 1) or 1; no states; NaN in results",
    comparison="bfloat16: output 1e-2, state 1e-3 and 5e-3; float16: output 1e-3 and 2e-3, state 1e-4 and 1e-3",
    reduced="4 launches of the grid; rows of 256, 512 to 192, H up to 3; q normalised, its norm in the scale; no GQA",
    kernel=Kernel.CHUNK,
    trials=tuple((s, _FILLED if s.activation is BF16 else _FINER) for s in _FULL),
)
_SHORT = (
    _prefill("31-150, bfloat16", (2, 4), [31, 63, 93, 123, 150], BF16, _AUTO, True, True),
    _prefill("61, float16", (1, 1), [61], F16, 1.0, True, True),
)
_FLASHINFER_NONFULL = replace(
    _FLASHINFER_PREFILL,
    name="flashinfer-prefill-nonfull",
    test="test_prefill_kernel_nonfull",
    reference=f"tests/gdn/test_prefill_delta_rule.py:75-178,296-350, tests/gdn/conftest.py:32-53 {FLASHINFER}",
    reduced="2 launches of the grid; rows above 150 left out, H up to 2; q normalised, its norm in the scale; no GQA",
    trials=tuple((s, _FILLED if s.activation is BF16 else _FINER) for s in _SHORT),
)
_FLASHINFER_DECODE = Rule(
    name="flashinfer-decode",
    project="FlashInfer",
    test="test_decode_kernel_basic_pretranspose",
    reference=f"tests/gdn/test_decode_delta_rule.py:135-298 {FLASHINFER}",
    inputs="q, k, v, b, states N(0, 1), a, A_log, dt_bias 0.1·N(0, 1), scale 1",
    comparison="output and state: rtol 5e-3, atol 0.016",
    reduced="B 1, 32 and 512 to 1 and 8; H 16 to 2, HV 32 to 4",
    kernel=Kernel.DECODE,
    trials=tuple(
        (
            Setting(f"B{B}", draws.flashinfer_decode, _square(2, 4, 128), rows_of([1] * B), BF16, scale=1.0),
            _both(5e-3, 0.016),
        )
        for B in (1, 8)
    ),
    parts=NORM,
)
OF_LIBRARIES = (
    _AITER_SWEEP,
    _AITER_PACKED,
    _FLA_CHUNK,
    _FLA_CHUNK_CI,
    _FLA_RECURRENT,
    _FLASHINFER_PREFILL,
    _FLASHINFER_NONFULL,
    _FLASHINFER_DECODE,
)
