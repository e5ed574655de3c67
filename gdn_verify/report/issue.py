"""The text of an issue about a wrong launch, ready to be pasted: what, where, with which versions, and the script."""

from __future__ import annotations

from gdn_verify.localise import Localised
from gdn_verify.report.ledger import versions
from gdn_verify.report.localise import sentences


def issue(script: str, found: Localised | None, path: str, device: str) -> str:
    """Markdown: a title, the sentences of `localise`, versions and device, and the script."""
    told = [*sentences(found)] if found else []
    title = f"{path}: {told[0]}" if told else f"{path}: a launch leaves memory as it must not"
    numbers = ", ".join(f"{name} {number}" for name, number in versions())
    seen = (
        f"Seen with {numbers}, on {device}. Expected values are float64; each row may be off by its rounding noise, as "
        "the numbers in the script say."
    )
    facts = ["\n".join(f"- {line}" for line in told[1:])] if told[1:] else []
    return "\n\n".join([f"# {title}", *facts, seen, f"```python\n{script}```\n"])
