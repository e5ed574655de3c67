"""Which rows of a launch go to which kernels: the accounts of a builder's host and device against the oracle's groups.

A live row that is in no group is served by nobody, one in two groups twice; a kind that a plan does not name has no
kernel. A kind may be named too often only by mistake: it costs a launch. Rows of padding that carry tokens may count as
what they look like; rows without tokens, those of a captured size among them, are nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gdn_verify.cases.case import Batch
from gdn_verify.cases.contract import Group
from gdn_verify.oracles.tables import Tables
from gdn_verify.paths.builder import Split
from gdn_verify.verdict import Check, Finding


def split_findings(splits: Mapping[str, Split], want: Tables, batch: Batch, where: str) -> Iterator[Finding]:
    """What each account says wrongly."""
    for by, split in splits.items():
        for words in (*_kinds(split, batch), *_rows(split, want, batch)):
            yield Finding(Check.TABLES, f"split by {by}", f"{where}: the split by {by} {words}")


def _kinds(split: Split, batch: Batch) -> Iterator[str]:
    there = {row.group for _, row in batch.live_rows()}
    looks = {row.group for row in batch.rows if row.tokens}
    for group in sorted(there - split.kinds):
        row = next(n for n, row in batch.live_rows() if row.group is group)
        yield f"has no {group} rows, but row {row} is one"
    for group in sorted(split.kinds - looks):
        yield f"has {group} rows, but no row with tokens is one"
    if split.one_token_each and (other := [n for n, row in enumerate(batch.rows) if row.tokens != 1]):
        yield f"has one token in each row, but row {other[0]} has {batch.rows[other[0]].tokens}"


def _rows(split: Split, want: Tables, batch: Batch) -> Iterator[str]:
    if split.rows is None:
        return
    live = {number for number, _ in batch.live_rows()}
    for group in Group:
        mine = split.rows.get(group, ())
        got, right = tuple(n for n in mine if n in live), want.groups[group]
        if got != right:
            yield f"has the {group} rows {got}, they must be {right}"
        for n in mine:
            if not 0 <= n < len(batch.rows):
                yield f"has row {n} among {group} rows, of a launch of {len(batch.rows)} rows"
            elif not batch.rows[n].tokens:
                yield f"has row {n} among {group} rows, which has no tokens"
