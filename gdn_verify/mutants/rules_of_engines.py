"""Published tests of vLLM and SGLang as `Rule`s: distributions, tolerances and where they stand.

Numbers and names are those of the sources at the commits named, read file by file; no code is taken over.
"""

from __future__ import annotations

from dataclasses import replace

from gdn_verify.cases.contract import DType, Geometry
from gdn_verify.cases.presentation import Presentation
from gdn_verify.mutants import draws
from gdn_verify.mutants.comparisons import Close, FewBeyond, MaxAndMean
from gdn_verify.mutants.published import Judge, Kernel, Part, Rule, Setting, rows_of

F32, BF16, F16 = DType.F32, DType.BF16, DType.F16
NORM, DECODE = frozenset({Part.NORM}), frozenset({Part.NORM, Part.SLOTS})
TWO = Geometry(2, 4, 128, 128)
UNTOUCHED = Close(1.3e-6, 1e-5)
"""`torch.testing.assert_close` of float32 without tolerances of its own."""


def _close(tolerance: float, *, pool: bool = False) -> Judge:
    same = Close(tolerance, tolerance)
    return Judge(same, same, others=same if pool else None)


def _split(prompts: tuple[int, ...], decodes: int, state: DType) -> Setting:
    rows = rows_of([1] * decodes + [*prompts])
    return Setting(f"{decodes}+{prompts}, {state} states", draws.vllm_split, TWO, rows, BF16, state)


_SPLIT = Rule(
    name="vllm-core-split",
    project="vLLM",
    test="test_forward_core_split_matches_unified",
    reference="tests/kernels/mamba/test_gdn_forward_core_split.py @0f25e050",
    inputs="layer inputs, conv weights and gates 0.1·N(0, 1), states 0.05·N(0, 1); one-token rows, then prompts",
    comparison="output and pool: rtol = atol = 2e-2 with float32 states, 6e-2 with bfloat16",
    reduced="prompts of 512 and 300 to 160 and 100, H 4 to 2; each window of the conv drawn by itself; compared with "
    "the right result, where the test compares one way through the layer with another",
    kernel=Kernel.CHUNK,
    trials=tuple(
        (_split(prompts, decodes, state), _close(2e-2 if state is F32 else 6e-2, pool=True))
        for decodes, prompts in ((3, (160, 100)), (4, (64, 5)))
        for state in (F32, BF16)
    ),
    parts=DECODE,
)

_ONE_PAST_NULL = Presentation(first_slot=1)


def _packed(dtype: DType, strided: bool) -> tuple[Setting, Judge]:
    rows = rows_of([1] * 8, [0, 1, 2, 3, 4, None, None, None])
    shown = replace(_ONE_PAST_NULL, row_pad=64) if strided else _ONE_PAST_NULL
    label = f"{dtype}, strided" if strided else str(dtype)
    close = Close(1e-4, 1e-4) if dtype is F32 else Close(1e-2, 2e-2)
    return Setting(label, draws.unit_normal, TWO, rows, dtype, dtype, slots=8, shown=shown), Judge(close, close, close)


_PACKED = Rule(
    name="vllm-packed-decode",
    project="vLLM",
    test="test_fused_recurrent_packed_decode_matches_reference",
    reference="tests/kernels/test_fused_recurrent_packed_decode.py @202c2b67",
    inputs="everything N(0, 1); slots from 1 on, the last three rows -1",
    comparison="output of live rows and pool: rtol 1e-2, atol 2e-2; 1e-4 in float32",
    reduced="B 32 to 8, H 4 to 2, HV 8 to 4",
    kernel=Kernel.DECODE,
    trials=tuple(_packed(dtype, strided) for dtype, strided in ((F16, False), (BF16, True), (F32, False))),
    parts=DECODE | {Part.PACKING},
)


def _cpu(label: str, geometry: Geometry, lengths: list[int]) -> tuple[Setting, Judge]:
    return Setting(label, draws.vllm_cpu, geometry, rows_of(lengths), BF16), _close(1e-2)


_WIDE, _EQUAL, _NARROW = Geometry(2, 4, 64, 32), Geometry(4, 4, 32, 32), Geometry(2, 4, 32, 32)
_CPU_DECODE = Rule(
    name="vllm-cpu-decode",
    project="vLLM",
    test="test_fused_sigmoid_gating_delta_rule_update_cpu",
    reference="tests/kernels/mamba/cpu/test_cpu_gdn_ops.py @02265e89",
    inputs="everything U[0, 1); tensors of one size and type are one tensor, so q is k and a is b",
    comparison="output and state: rtol = atol = 1e-2",
    reduced="3 of 12 launches, at full size",
    kernel=Kernel.DECODE,
    trials=(_cpu("B5 64×32", _WIDE, [1] * 5), _cpu("B3 H4", _EQUAL, [1] * 3), _cpu("B1 32×32", _NARROW, [1])),
    parts=DECODE,
)
_CPU_CHUNK = replace(
    _CPU_DECODE,
    name="vllm-cpu-chunk",
    test="test_chunk_gated_delta_rule_cpu",
    reduced="4 of 32 launches, at full size",
    kernel=Kernel.CHUNK,
    trials=(
        _cpu("1-3 64×32", _WIDE, [1, 2, 3]),
        _cpu("63-65 32×32", _NARROW, [63, 64, 65]),
        _cpu("127-129 64×32", _WIDE, [127, 128, 129]),
        _cpu("273 H4", _EQUAL, [273]),
    ),
    parts=NORM,
)

_WITHIN = Judge(MaxAndMean(2e-3, 6e-5), MaxAndMean(2e-2, 6e-4))
_CUTEDSL = Rule(
    name="vllm-cutedsl-prefill",
    project="vLLM",
    test="test_gdn_chunk_cutedsl_correctness",
    reference="tests/kernels/mamba/test_gdn_prefill_cutedsl.py @f8fd413b",
    inputs="q, k of norm 1, v, a, b N(0, 1), A U[0, 16), dt log-uniform in [0.001, 0.1], states 0.05·N(0, 1)",
    comparison="output: largest error below 2e-3 and mean below 6e-5; state: 2e-2 and 6e-4",
    reduced="1 and 5 rows of 1 to 129 tokens, not 257; H 4 to 2, HV 8 to 4; lengths fixed",
    kernel=Kernel.CHUNK,
    trials=tuple(
        (
            Setting(f"{len(lengths)} rows, {state} states", draws.vllm_cutedsl, TWO, rows_of(lengths), BF16, state),
            _WITHIN,
        )
        for lengths, state in (([100], F32), ([77, 1, 129, 64, 18], F32), ([77, 1, 129, 64, 18], BF16))
    ),
)

_SGLANG_ROWS = rows_of([121, 139, 115, 137], [3, 11, 15, 7])
_SGLANG_CHUNK = Rule(
    name="sglang-cpu-chunk",
    project="SGLang",
    test="test_chunk_gated_delta_rule",
    reference="test/registered/cpu/test_mamba.py @0361c8ad, python/sglang/test/cpu_test_utils.py @028fc152",
    inputs="q, k, v N(0, 1), g = logsigmoid(N(0, 1)), β = sigmoid(N(0, 1)), states 0.1·N(0, 1); 4 slots of 17",
    comparison="output and state: rtol = atol = 1e-2; other slots: float32's default tolerance",
    reduced="H 3 and 16 to 2, HV 6 and 32 to 4",
    kernel=Kernel.CHUNK,
    trials=(
        (
            Setting("4 rows", draws.sglang_chunk, TWO, _SGLANG_ROWS, BF16, slots=17),
            Judge(Close(1e-2, 1e-2), Close(1e-2, 1e-2), others=UNTOUCHED),
        ),
    ),
    parts=DECODE,
)
_SGLANG_DECODE = Rule(
    name="sglang-cutedsl-decode",
    project="SGLang",
    test="test_cutedsl_gdn_precision",
    reference="python/sglang/jit_kernel/tests/test_cutedsl_gdn.py @130cc752",
    inputs="everything N(0, 1); slots in order",
    comparison="output alone: no NaN, and an error above 0.1 in less than 1 %; the state is not compared",
    reduced="B 8 to 256 to 8, float32 states alone; H 16 to 2, HV 32 to 4",
    kernel=Kernel.DECODE,
    trials=((Setting("B8", draws.unit_normal, TWO, rows_of([1] * 8), BF16), Judge(FewBeyond(0.1, 0.01))),),
    parts=DECODE,
)
OF_ENGINES = (_SPLIT, _PACKED, _CPU_DECODE, _CPU_CHUNK, _CUTEDSL, _SGLANG_CHUNK, _SGLANG_DECODE)
