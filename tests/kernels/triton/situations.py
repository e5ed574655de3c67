"""One launch for each thing that a launch may have, apart from the defaults of a `Problem`."""

from __future__ import annotations

from dataclasses import replace

import torch

from gdn_verify.kernels.tables import Row

from .problems import PADDING, RATIOS, Problem, draft, one_each

LAYERS: dict[str, dict[str, object]] = {
    **{f"ratio {ratio}": {"ratio": ratio} for ratio in RATIOS},
    **{f"width {W} of the conv": {"W": W, "spare": 1} for W in (2, 3, 5)},
    "one number": {"H": 1, "ratio": 1, "K": 1, "V": 1},
    "K below V": {"K": 4, "V": 16},
    "V below K": {"K": 16, "V": 3},
    "no powers of two": {"H": 3, "ratio": 3, "K": 5, "V": 11, "packing": "interleaved"},
    "bias": {"bias": True},
    "no activation": {"conv_activation": None},
    "sigmoid": {"norm": "sigmoid"},
    "no norm": {"norm": None},
    "scale and beta": {"scale": 0.5, "beta_scale": 2.0},
    "interleaved, three heads a group": {"packing": "interleaved", "ratio": 3},
    "state keys first": {"state_order": "KV"},
    "bfloat16": dict.fromkeys(("activations", "state", "conv"), torch.bfloat16),
    "float16": dict.fromkeys(("activations", "state", "conv"), torch.float16),
    "three types": {"activations": torch.bfloat16, "conv": torch.float16, "result": torch.float32},
    "int64": {"index": torch.int64},
    "strided slots": {"strided_index": True},
    "gaps between tokens and slots": {"gap": 5, "starts": True, "tokens": 6},
    "addresses of 4 bytes": {"shift": 1},
    "addresses of 4 bytes, 16 bits": {"shift": 2, **dict.fromkeys(("activations", "state", "conv"), torch.bfloat16)},
    "channels of a column side by side": {"conv_columns_inside": False, "gap": 3},
    "spare columns": {"spare": 3},
}
"""Changes of a problem that make sense for decode and for speculative rows."""

DECODE_ROWS: dict[str, Problem] = {
    "no rows": Problem(rows=(), tokens=2),
    "no rows, with offsets": Problem(rows=(), tokens=2, starts=True),
    "nothing": Problem(rows=(), starts=True),
    "no tokens": Problem(rows=one_each(3, 1), tokens=0),
    "rows without tokens only": Problem(rows=(Row(0, (3,)), Row(0, (PADDING,))), starts=True),
    "more rows than tokens": Problem(rows=one_each(3, 1, 4, 5), tokens=2),
    "offsets beyond the tokens": Problem(rows=one_each(3, 1, 4, 5), tokens=2, starts=True),
    "more tokens than rows": Problem(tokens=7),
    "more tokens than rows, with offsets": Problem(tokens=7, starts=True),
    "all padded": Problem(rows=one_each(PADDING, -7, 9, 2**31 - 1)),
    "a pad id": Problem(rows=one_each(0, 3, 0, 1), pad_slot_id=0),
    "slot 0 without a pad id": Problem(rows=one_each(0, 3)),
    "rows without tokens between": Problem(
        rows=(Row(0, (2,)), *one_each(3), Row(0, (5,)), Row(0, (PADDING,)), *one_each(PADDING, 1)),
        starts=True,
        tokens=5,
    ),
    "longer rows are passed over": Problem(
        rows=(*one_each(3), Row(2, (5,)), Row(3, (PADDING,)), *one_each(1)), starts=True, tokens=8
    ),
}
SPEC_ROWS: dict[str, Problem] = {
    "no rows": Problem(rows=(), tokens=2),
    "nothing": Problem(rows=()),
    "no tokens": Problem(rows=(draft(0, 1, 3), draft(0, 2, 1, 2))),
    "every length and count": Problem(
        rows=tuple(draft(1 + n % 3, 1 + n // 3, 3 * n, 3 * n + 1, 3 * n + 2) for n in range(9)), slots=27
    ),
    "rows without tokens between": Problem(rows=(draft(0, 1, 3, 4), draft(2, 2, 5, 6), draft(0, 3, 1)), tokens=5),
    "all padded": Problem(rows=(draft(1, 1, PADDING), draft(2, 1, 9, 3))),
    "pad columns": Problem(
        rows=(draft(3, 1, 1, PADDING, 2), draft(3, 2, 3, 4, 0), draft(2, 2, 5, 0, 6), draft(2, 2, 0, 7, 8)),
        pad_slot_id=0,
    ),
    "illegal counts": Problem(
        rows=(draft(2, 0, 1, 2, 3), draft(1, 4, 4, 5, 6), draft(2, -1, 7, 8), draft(1, 2**31 - 1, 0), draft(1, 1, 3)),
        slots=9,
    ),
    "longer than the table": Problem(rows=(draft(4, 1, 1, 2, 3), draft(1, 1, 4))),
    "only the rows that are looked at": Problem(
        rows=(draft(2, 1, 1, 2), draft(2, 1, 3, 4), draft(1, 1, PADDING), draft(1, 1, 5)),
        looked_at=(True, False, False, True),
    ),
    "tokens beyond": Problem(rows=(draft(2, 1, 1, 2), draft(1, 1, PADDING)), tokens=9),
    "offsets beyond the tokens": Problem(rows=(draft(2, 1, 1, 2), draft(3, 1, 3, 4, 5)), tokens=4),
    "slot 0 without a pad id": Problem(rows=(draft(2, 1, 0, 1),)),
}
SPEC_ROWS = {name: replace(problem, width=3) for name, problem in SPEC_ROWS.items()}
DRAFTS = Problem(rows=(draft(2, 1, 0, 1, 2), draft(1, 3, 3, 4, 5), draft(3, 2, 6, PADDING, 7), draft(0, 1, 8)), width=3)
"""Ordinary speculative rows."""
