"""The environment of vLLM's processes: what this suite must have, and what is usual where a user has said nothing."""

from __future__ import annotations

from collections.abc import MutableMapping

PLUGINS = "vllm.general_plugins"
OURS = "gdn_verify"
ALLOWED = "VLLM_PLUGINS"
"""Where it is set, vLLM loads no plugin but those that it names, platforms' among them."""
REQUIRED = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the core must be exchanged in this process
    # The second model runner prepares its turns elsewhere, and takes no logits processor but of its own kind.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}
USUAL = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # Eager engines compile a helper of log-probabilities all the same, for seconds, with a C++ compiler.
    "TORCHDYNAMO_DISABLE": "1",
}


def put(environment: MutableMapping[str, str], alone: bool) -> None:
    """Make an environment one of vLLM's processes.

    Of plugins only ours is loaded if `alone`, as for models of this suite's own; a user's list of them is kept, with
    ours in it.
    """
    environment.update(REQUIRED)
    for name, value in USUAL.items():
        environment.setdefault(name, value)
    if alone:
        environment.setdefault(ALLOWED, OURS)
    if ALLOWED in environment and OURS not in (names := environment[ALLOWED].split(",")):
        environment[ALLOWED] = ",".join(name for name in (*names, OURS) if name)
