"""What vLLM loads by the entry point `vllm.general_plugins`: nothing, unless `gdn-verify e2e` has asked for it.

vLLM only logs a plugin that fails, and goes on with its own code: the run asks `seam.installed` and fails instead.
"""

from __future__ import annotations

import atexit
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdn_verify.e2e.variant import Variant
    from gdn_verify.hosts import Host

ASKED = "GDN_VERIFY_E2E"
"""Set in the engine's processes by whoever starts them: the platform whose seam is wanted, cpu, cuda or rocm."""
CORE = "GDN_VERIFY_CORE"
"""The core to run from the start, in engines that nobody asks variant by variant."""
TOLD = "GDN_VERIFY_TOLD"
"""The folder in which such an engine writes, when it ends, what it ran."""


def register() -> None:
    """Take the core's place in vLLM, where that was asked for."""
    if way := os.environ.get(ASKED):
        put_in(way)
        if word := os.environ.get(CORE):
            _begin(word, way)


def _begin(word: str, way: str) -> None:
    from gdn_verify.e2e.cores import core_of
    from gdn_verify.e2e.seam import SEAM
    from gdn_verify.e2e.variant import variant
    from gdn_verify.hosts import CPU

    wanted = variant(word)
    SEAM.begin(core_of(wanted, host_of(way, CPU)), None, 1)
    if room := os.environ.get(TOLD):
        atexit.register(_tell, Path(room), wanted)


def _tell(room: Path, wanted: Variant) -> None:
    """Write down whether the core did the engine's work, if this process was an engine at all: nobody asks it."""
    from gdn_verify.e2e.seam import SEAM

    if SEAM.account.kinds or SEAM.ran:
        problems = [*filter(None, [SEAM.raised]), *SEAM.shortcomings(len(SEAM.ran) or 1, wanted.leaves)]
        launches = sum(sum(kinds.values()) for kinds in SEAM.ran.values())
        made = {"layers": len(SEAM.ran), "launches": launches, "problems": problems}
        (room / f"{os.getpid()}.json").write_text(json.dumps(made), encoding="utf-8")


def host_of(way: str, here: Host) -> Host:
    """Where cores run: on the card whose seam it is; on a CPU, whichever way its layers go, where the process is."""
    from vllm.platforms import current_platform

    from gdn_verify.hosts import HOSTS

    return here if current_platform.is_cpu() else HOSTS[way]


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
