"""What vLLM loads by the entry point `vllm.general_plugins`: nothing, unless `gdn-verify e2e` has asked for it.

vLLM only logs a plugin that fails, and goes on with its own code: the run asks `seam.installed` and fails instead.
"""

from __future__ import annotations

import os

ASKED = "GDN_VERIFY_E2E"
"""Set in the engine's processes by whoever starts them: the platform whose seam is wanted, cpu, cuda or rocm."""
CORE = "GDN_VERIFY_CORE"
"""The core to run from the start, in engines that nobody asks variant by variant."""


def register() -> None:
    """Take the core's place in vLLM, where that was asked for."""
    if way := os.environ.get(ASKED):
        put_in(way)
        if word := os.environ.get(CORE):
            _begin(word)


def _begin(word: str) -> None:
    from gdn_verify.e2e.cores import core_of
    from gdn_verify.e2e.seam import SEAM
    from gdn_verify.e2e.variant import variant
    from gdn_verify.hosts import HOSTS

    SEAM.begin(core_of(variant(word), HOSTS["cpu"]), None, 1)


def put_in(way: str) -> None:
    """Put the seam in, once. Raises where vLLM is not as it was read."""
    from gdn_verify.e2e import cpu_seam, gpu_seam, seam
    from gdn_verify.e2e.guide import exchanged, guided

    if seam.installed():
        return
    from vllm.platforms import current_platform
    from vllm.v1.spec_decode.llm_base_proposer import SpecDecodeBaseProposer
    from vllm.v1.spec_decode.ngram_proposer import NgramProposer
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    if way == "cpu":
        cpu_seam.install()
    else:
        gpu_seam.install()
        if current_platform.is_cpu():
            gpu_seam.taking(way)
    NgramProposer.propose = guided(NgramProposer.propose, lambda: seam.SEAM.guide)
    SpecDecodeBaseProposer.propose = seam.tallied(SpecDecodeBaseProposer.propose, "turns of the drafter")
    GPUModelRunner.propose_draft_token_ids = exchanged(
        GPUModelRunner.propose_draft_token_ids, lambda: seam.SEAM.guide
    )  # fmt: skip
    GPUModelRunner._prepare_inputs = seam.announced(GPUModelRunner._prepare_inputs)
