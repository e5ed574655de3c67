"""Makes an engine follow given tokens, so that two variants are asked about the same context at every step.

vLLM takes it by name (`LLM(logits_processors=[…])`). Log-probabilities are those from before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

if TYPE_CHECKING:
    from torch import Tensor

WORD = "gdn_verify_tokens"
"""Of `SamplingParams.extra_args`: the tokens to follow."""


class Forced(AdapterLogitsProcessor):
    """Leaves of each step's logits that of the token to follow, for requests that were given some."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: Any) -> Any:
        """What is applied to a request's logits; None for one that chooses freely."""
        tokens = (params.extra_args or {}).get(WORD)
        if tokens is None:
            return None

        def force(output: list[int], logits: Tensor) -> Tensor:
            token = tokens[len(output)]
            kept = logits[token].clone()
            logits.fill_(float("-inf"))
            logits[token] = kept
            return logits

        return force
