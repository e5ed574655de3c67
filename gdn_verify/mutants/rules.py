"""Published tests of Gated DeltaNet kernels, by name: what `gdn-verify rules` measures on the mutants."""

from __future__ import annotations

from gdn_verify.mutants.published import Rule
from gdn_verify.mutants.rules_of_engines import OF_ENGINES
from gdn_verify.mutants.rules_of_libraries import OF_LIBRARIES

RULES: dict[str, Rule] = {rule.name: rule for rule in (*OF_LIBRARIES, *OF_ENGINES)}
