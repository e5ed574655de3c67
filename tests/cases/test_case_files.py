"""Case files: what is written is read back; what is damaged is an error with a place, never another case."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from gdn_verify.cases.case import Batch, Case, Row
from gdn_verify.cases.codec import CaseFile, CaseFileError, dumps, load, loads, save
from gdn_verify.cases.contract import DType, DTypes, Geometry, Kind, Options, Span, Stage
from gdn_verify.cases.presentation import IndexType, Poison, Presentation
from gdn_verify.cases.reach import ANY_CONVENTIONS, any_capabilities
from gdn_verify.cases.sizes import WIDE
from gdn_verify.cases.strategies import cases, draw_cases
from gdn_verify.cases.values import Gates, States, Values, Vectors

FULL = any_capabilities(Span(Stage.UNPACK, Stage.NORM))
FILE = CaseFile(
    Case(
        Geometry(1, 3, 24, 40, num_spec=2),
        DTypes(activation=DType.BF16),
        9,
        (
            Batch((Row(2, (7, 0, None), accepted=2), Row(1, (None,)), Row(5, (3,), fresh=True)), pad_tokens=1),
            Batch((Row(1, (7, 0, None), accepted=1), Row(4, (4,), read=3))),
        ),
        Values(seed=17, k=Vectors.TINY, gates=Gates.SPIKE, state=States.NORMAL),
        Options(scale=1.0),
    ),
    Presentation(slot_pad=5, index_type=IndexType.I64, sentinel=-7, poison=Poison.HUGE),
    "found on a shelf",
)

# Schema 1 as first written. It must stay readable for ever: people keep such files. Never renew it.
SCHEMA_1 = """{
  "schema": 1,
  "case": {
    "geometry": {"H": 1, "HV": 3, "K": 24, "V": 40, "num_spec": 2},
    "dtypes": {"activation": "bfloat16"},
    "slots": 9,
    "batches": [
      {
        "rows": [
          {"tokens": 2, "slots": [7, 0, null], "accepted": 2},
          {"tokens": 1, "slots": [null]},
          {"tokens": 5, "slots": [3], "fresh": true}
        ],
        "pad_tokens": 1
      },
      {
        "rows": [
          {"tokens": 1, "slots": [7, 0, null], "accepted": 1},
          {"tokens": 4, "slots": [4], "read": 3}
        ]
      }
    ],
    "values": {"seed": 17, "k": "tiny norm", "gates": "single spike", "state": "normal"},
    "options": {"scale": 1.0}
  },
  "presentation": {"slot_pad": 5, "index_type": "int64", "sentinel": -7, "poison": "huge"},
  "notes": "found on a shelf"
}
"""


def test_schema_1_stays_readable() -> None:
    """Byte for byte what was written then means the same case now."""
    assert loads(SCHEMA_1) == FILE


def test_schema_1_is_still_what_is_written() -> None:
    """A change of layout is a new schema number, not a surprise in a diff."""
    assert dumps(FILE) == SCHEMA_1


@pytest.mark.parametrize("kind", Kind)
def test_files_round_trip(kind: Kind) -> None:
    """Every generated case comes back equal, and is written the same again."""
    for case, fed in draw_cases(cases(FULL, ANY_CONVENTIONS, kind, size=WIDE), 150, 5):
        file = CaseFile(case, fed)
        text = dumps(file)
        assert loads(text) == file
        assert dumps(loads(text)) == text


def test_cases_before_it_are_kept() -> None:
    """Each as a file has it; a file without any does not speak of them."""
    pair = CaseFile(FILE.case, FILE.presentation, before=(FILE,))
    assert loads(dumps(pair)) == pair
    assert "before" not in dumps(FILE)


def test_a_file_cut_anywhere_is_an_error() -> None:
    """Up to the last brace, no beginning of a file is a file."""
    for end in range(len(SCHEMA_1.rstrip())):
        with pytest.raises(CaseFileError):
            loads(SCHEMA_1[:end])


def test_a_byte_changed_anywhere_never_gives_the_same_case_by_luck() -> None:
    """Each byte, replaced, leaves an error or a case that differs, or touches blank space only."""
    for place, byte in enumerate(SCHEMA_1):
        if byte.isspace():
            continue
        try:
            read = loads(SCHEMA_1[:place] + ("!" if byte != "!" else "?") + SCHEMA_1[place + 1 :])
        except CaseFileError:
            continue
        assert read != FILE


BAD = [
    ("", "not a case file"),
    ("[]", "no schema number"),
    ("{}", "no schema number"),
    ('{"schema": 2}', "schema=2"),
    ('{"schema": true, "case": {}}', "schema=True"),
    ('{"schema": 1}', "file.case: missing"),
    ('{"schema": 1, "case": 3}', "file.case=3: a record"),
    ('{"schema": 1, "case": {"colour": 1}}', "file.case.colour: unknown field"),
    (SCHEMA_1.replace('"bfloat16"', '"float8"'), "dtypes.activation='float8'"),
    (SCHEMA_1.replace('"tokens": 5', '"tokens": "5"'), "rows[2].tokens='5'"),
    (SCHEMA_1.replace('"tokens": 5', '"tokens": 5.0'), "rows[2].tokens=5.0"),
    (SCHEMA_1.replace('"tokens": 5', '"tokens": true'), "rows[2].tokens=True"),
    (SCHEMA_1.replace('"fresh": true', '"fresh": 1'), "rows[2].fresh=1"),
    (SCHEMA_1.replace('"slots": [3]', '"slots": 3'), "rows[2].slots=3: a list"),
    (SCHEMA_1.replace('"HV": 3', '"HV": 5'), "geometry.HV=5"),
    (SCHEMA_1.replace('"slots": [3]', '"slots": [7]'), "belongs to row 0 already"),
    (SCHEMA_1.replace('"slots": 9', '"slots": 7'), "is below the pool's 7 slots"),
    (SCHEMA_1.replace('"scale": 1.0', '"scale": NaN'), "options.scale=nan"),
    (SCHEMA_1.replace('"scale": 1.0', '"scale": 1.0, "scale": 2.0'), "scale: stands twice"),
    ("[" * 100_000, "not a case file"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_file_is_one_clear_error(text: str, words: str) -> None:
    """Wrong types, unknown fields, illegal cases and repeated keys are named with their place."""
    with pytest.raises(CaseFileError) as refusal:
        loads(text)
    assert words in str(refusal.value)


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    """Saving leaves one file, with the new text."""
    path = tmp_path / "case.json"
    save(path, CaseFile(FILE.case))
    save(path, FILE)
    assert [p.name for p in tmp_path.iterdir()] == ["case.json"]
    assert load(path) == FILE


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", None])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Not UTF-8, not JSON or not there: the error starts with the path."""
    path = tmp_path / "case.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaseFileError) as refusal:
        load(path)
    assert str(refusal.value).startswith(str(path))


def test_defaults_are_left_out() -> None:
    """So that what matters stands out."""
    plain = CaseFile(Case(Geometry(1, 1, 8, 8), DTypes(), 1, (Batch((Row(1, (0,)),)),)))
    body = json.loads(dumps(plain))
    assert set(body) == {"schema", "case"}
    assert set(body["case"]) == {"geometry", "dtypes", "slots", "batches"}


# What a field that a file leaves out means in schema 1. Like the file above, never renew it.
DEFAULTS_1 = {
    "geometry": {"H": 1, "HV": 1, "K": 8, "V": 8, "W": 4, "num_spec": 0},
    "dtypes": dict.fromkeys(("activation", "state", "conv_state", "gates", "params", "weights"), "float32"),
    "slots": 1,
    "batches": (
        {
            "rows": ({"tokens": 1, "slots": (0,), "accepted": None, "fresh": False, "read": None},),
            "pad_tokens": 0,
            "moves": (),
        },
    ),
    "values": {
        "seed": 0,
        "q": "ones",
        "k": "ones",
        "v": "ones",
        "gates": "zero",
        "beta": "half",
        "state": "zeros",
        "conv": "identity",
        "z": "ones",
    },
    "options": {
        "scale": None,
        "conv_activation": "silu",
        "conv_bias": False,
        "norm_activation": "silu",
        "norm_eps": 1e-6,
        "beta_scale": 1.0,
        "qk_eps": 1e-6,
    },
}
FED_1 = {
    "packing": "flat",
    "state_order": "VK",
    "conv_layout": "DC",
    "slot_pad": 0,
    "row_pad": 0,
    "misalign": 0,
    "table_pad": 0,
    "table_step": 1,
    "row_step": 1,
    "index_type": "int32",
    "sentinel": -1,
    "first_slot": 0,
    "poison": "nan",
}


def test_what_a_file_leaves_out_keeps_its_meaning() -> None:
    """A default that changed would turn every stored case into another, without an error."""
    geometry = '{"H": 1, "HV": 1, "K": 8, "V": 8}'
    batches = '[{"rows": [{"tokens": 1, "slots": [0]}]}]'
    text = f'{{"schema": 1, "case": {{"geometry": {geometry}, "dtypes": {{}}, "slots": 1, "batches": {batches}}}}}'
    file = loads(text)
    assert asdict(file.case) == DEFAULTS_1
    assert asdict(file.presentation) == FED_1
