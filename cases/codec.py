"""Cases as JSON that a person can read, with a schema number and one clear error for a bad file."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import ContractError
from gdn_verify.cases.presentation import Presentation

SCHEMA = 1


class CaseFileError(ContractError):
    """A case file that cannot be used: unreadable, truncated, of another schema, or against the contract."""


@dataclass(frozen=True)
class CaseFile:
    """What a file holds: a case, how it was fed, and notes (path, host, finding) that nothing depends on.

    Cases `before` it are launched first in the same process, where it fails behind them alone.
    """

    case: Case
    presentation: Presentation = field(default_factory=Presentation)
    notes: str = ""
    before: tuple[CaseFile, ...] = ()


def dumps(file: CaseFile) -> str:
    """The file's text; fields at their defaults are left out, so that what matters stands out."""
    body = {"schema": SCHEMA, **_plain(file)}
    return _layout(body) + "\n"


def loads(text: str) -> CaseFile:
    """The case in `text`; raises CaseFileError with the place of the trouble."""
    try:
        body = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise CaseFileError(f"not a case file: {error.msg} at line {error.lineno} (truncated or corrupt?)") from None
    except RecursionError:
        raise CaseFileError("not a case file: nested without end") from None
    if not isinstance(body, dict) or "schema" not in body:
        raise CaseFileError("not a case file: no schema number")
    if (schema := body.pop("schema")) is True or schema != SCHEMA:
        raise CaseFileError(f"schema={schema!r}: this version reads schema {SCHEMA}; use the version that wrote it")
    try:
        return typing.cast(CaseFile, _build(CaseFile, body, "file"))
    except CaseFileError:
        raise
    except ContractError as error:
        raise CaseFileError(f"not a legal case: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that stands twice would hide its first value."""
    body = dict(pairs)
    for name, _ in pairs if len(body) < len(pairs) else []:
        if sum(name == other for other, _ in pairs) > 1:
            raise CaseFileError(f"{name}: stands twice")
    return body


def save(path: Path, file: CaseFile) -> None:
    """Write `file` to `path`, replacing it whole or not at all."""
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(dumps(file), encoding="utf-8")
    scratch.replace(path)


def load(path: Path) -> CaseFile:
    """Read a case file; raises CaseFileError naming the file."""
    try:
        return loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CaseFileError(f"{path}: {error}") from None
    except CaseFileError as error:
        raise CaseFileError(f"{path}: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        kept = ((f.name, getattr(value, f.name), f) for f in fields(value))
        return {name: _plain(v) for name, v, f in kept if not _is_default(f, v)}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def _is_default(f: Any, value: Any) -> bool:
    if f.default is not MISSING:
        return bool(value == f.default)
    return f.default_factory is not MISSING and bool(value == f.default_factory())


def _layout(body: Any, indent: int = 0) -> str:
    """JSON with small things on one line and large ones opened up."""
    flat = json.dumps(body, ensure_ascii=False)
    if len(flat) + indent <= 100 or not isinstance(body, (dict, list)) or not body:
        return flat
    pad = " " * (indent + 2)
    if isinstance(body, dict):
        inner = [f"{pad}{json.dumps(k)}: {_layout(v, indent + 2)}" for k, v in body.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    inner = [pad + _layout(v, indent + 2) for v in body]
    return "[\n" + ",\n".join(inner) + "\n" + " " * indent + "]"


def _build(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _build_record(kind, value, where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise CaseFileError(f"{where}={value!r}: a list is needed")
        return tuple(_build(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is types.UnionType:
        if value is None and type(None) in args:
            return None
        return _build(next(a for a in args if a is not type(None)), value, where)
    return _build_scalar(kind, value, where)


def _build_scalar(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(repr(m.value) for m in kind)
            raise CaseFileError(f"{where}={value!r}: one of {known} is needed") from None
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise CaseFileError(f"{where}={value!r}: {kind.__name__} is needed")
    return kind(value)


def _build_record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise CaseFileError(f"{where}={value!r}: a record is needed")
    hints = typing.get_type_hints(kind)
    names = {f.name: f for f in fields(kind)}
    for name in value:
        if name not in names:
            raise CaseFileError(f"{where}.{name}: unknown field; known are {', '.join(names)}")
    for name, f in names.items():
        if name not in value and f.default is MISSING and f.default_factory is MISSING:
            raise CaseFileError(f"{where}.{name}: missing (truncated file?)")
    return kind(**{name: _build(hints[name], v, f"{where}.{name}") for name, v in value.items()})
