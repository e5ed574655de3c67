"""The text of an issue about a wrong launch, ready to be pasted: what, where, with which versions, and the script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gdn_verify.explain import Ingredient, said
from gdn_verify.located import Found, Raised
from gdn_verify.report.ledger import versions
from gdn_verify.report.localise import sentences, traceback_of


def issue(script: str, found: Found | None, path: str, device: str, needs: Sequence[Ingredient] = ()) -> str:
    """Markdown: a title, the sentences of `localise`, what the bug needs, versions and device, and the script."""
    told = [*sentences(found)] if found else []
    title = f"{path}: {told[0]}" if told else f"{path}: a launch leaves memory as it must not"
    numbers = ", ".join(f"{name} {number}" for name, number in versions())
    seen = (
        f"Seen with {numbers}, on {device}. Expected values are float64; each row may be off by its rounding noise, as "
        "the numbers in the script say."
    )
    facts = ["\n".join(f"- {line}" for line in told[1:])] if told[1:] else []
    if isinstance(found, Raised):
        facts.append(f"```\n{traceback_of(found)}\n```")
    told_needs = ["\n".join(_table(needs))] if needs else []
    return "\n\n".join([f"# {title}", *facts, *told_needs, seen, f"```python\n{script}```\n"])


def _table(needs: Sequence[Ingredient]) -> Iterator[str]:
    """What was varied alone, and whether the bug needs it."""
    if wanted := [each for each in needs if each.needed]:
        yield from ("| needs | in this case | fails with |", "| --- | --- | --- |")
        yield from (f"| {each.name} | {said(each.now)} | {each} |" for each in wanted)
        yield ""
    if free := [each.name for each in needs if not each.needed]:
        yield f"It fails whatever these are: {', '.join(free)}."
