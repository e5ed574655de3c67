"""Laws: how launches of one path bind each other, whatever the right numbers are.

A law is judged from the path's own outputs, so it sees what an oracle with the same misreading would not. The oracle
gives only the budgets: how far honest rounding may move either side. `docs/laws.md` has a table of all of them.
"""

NAMES = (
    "split",
    "packing",
    "rows",
    "slots",
    "causality",
    "heads",
    "sharding",
    "kinds",
    "fresh",
    "homogeneity",
    "linearity",
    "scale",
    "no-decay",
    "no-writing",
    "forgetting",
    "repeat",
    "content",
    "layout",
    "hand-over",
    "relay",
)
"""Names of all laws, known without importing torch; a test holds them to `judge.LAWS`."""
