"""vLLM at work in a process of its own: one engine, and one variant after the other on it.

The process hosts the engine's core itself, so that the operator's implementation can be exchanged between two
`generate`. Nothing is fetched: models are made here, tokens come as numbers.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdn_verify.e2e.checkpoint import Kind
from gdn_verify.e2e.environment import ALLOWED, OURS, PLUGINS, put
from gdn_verify.e2e.messages import Ask, Open, Opened, Prompts, Seen, Texts, answer
from gdn_verify.e2e.plugin import ASKED, host_of, put_in
from gdn_verify.e2e.scenario import Settings
from gdn_verify.e2e.transcript import SHOWN, Request, Step, Transcript
from gdn_verify.e2e.variant import path_of, whose
from gdn_verify.hosts import Host
from gdn_verify.oracles.ready import load

if TYPE_CHECKING:
    from gdn_verify.e2e.seam import Core, Watcher

CLASSES = {
    Kind.QWEN3_5: (("qwen3_5", "Qwen3_5ForCausalLM"), ("qwen3_5_mtp", "Qwen3_5MTP")),
    Kind.QWEN3_NEXT: (("qwen3_next", "Qwen3NextForCausalLM"), ("qwen3_next_mtp", "Qwen3NextMTP")),
}
"""Modules and classes of vLLM for each of the tiny models: its own, and its layer that drafts."""
FORCING = "gdn_verify.e2e.forcing:Forced"


def serve(host: Host, pipe: Connection) -> None:
    """Answer `Open`, `Texts` and `Ask` until the parent closes the pipe."""

    def opening(asked: Open) -> _Engine:
        prepare(asked)
        return _Engine(asked, host)

    answer(pipe, opening)


IMPORTED = (
    "vllm", "vllm.entrypoints.llm", "vllm.v1.engine.llm_engine", "vllm.v1.engine.core", "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner", "vllm.v1.spec_decode.ngram_proposer",
    *(f"vllm.model_executor.models.{module}" for classes in CLASSES.values() for module, _ in classes),
)  # fmt: skip
"""What an engine of a tiny model needs of vLLM, none of which starts a thread."""


def ready() -> None:
    """Import it, and this suite's oracle, once for all engines that are forked of this process.

    What cannot be imported is passed over: the engine then says so itself.
    """
    put(os.environ, alone=True)
    _stand_in()
    with suppress(Exception):
        _let_vllm_look()
        for module in IMPORTED:
            import_module(module)
        load()


def prepare(asked: Open) -> None:
    """The environment of vLLM's processes, before it is imported; what it keeps of its own lies beside the models."""
    put(os.environ, alone=asked.checkpoint is not None)
    os.environ[ASKED] = asked.settings.seam
    os.environ.setdefault("VLLM_CACHE_ROOT", str(Path(asked.root or tempfile.gettempdir()) / "gdn-verify-vllm"))
    _stand_in()


def _stand_in() -> None:
    """An empty torchvision, where there is none."""
    if find_spec("torchvision") is None:
        absent = str(Path(__file__).parent / "absent")
        sys.path.append(absent)
        os.environ["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", ""), absent])


def _let_vllm_look() -> None:
    """vLLM 0.32 looks through all modules for kernels, and asks things with a `__dict__` for theirs.

    llvmlite's library, which the oracle's compiler has loaded, answers every name with a function, that one too.
    """
    from llvmlite.binding import ffi

    library, right = type(ffi.lib), type(ffi.lib).__getattr__

    def named(self: Any, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return right(self, name)

    library.__getattr__ = named


def _inspect_here(kind: Kind) -> None:
    """Tell vLLM what it would find out about the model's class in a process of its own, by importing itself there."""
    from vllm import ModelRegistry

    for module, name in CLASSES[kind]:
        ModelRegistry.register_model(name, getattr(import_module(f"vllm.model_executor.models.{module}"), name))


class _Engine:
    """One `LLM`, and the seam in its layers."""

    def __init__(self, asked: Open, host: Host) -> None:
        self.settings, folder = asked.settings, asked.model
        _let_vllm_look()
        if asked.checkpoint is not None:
            folder = str(asked.checkpoint.ensure(Path(asked.root)))
            _inspect_here(asked.checkpoint.kind)
        self.llm = _llm(folder, asked.settings, asked.tokenizer)
        _require_plugin()
        self.host = host_of(asked.settings.seam, host)
        config = self.llm.llm_engine.model_config.hf_text_config
        self.layers = gdn_layers(config, folder)
        self.opened = Opened(_version(), self.layers, config.vocab_size, folder)

    def reply(self, message: Ask | Texts) -> Any:
        """A `Transcript`, or with `watch` a `Seen`; of `Texts` each line's tokens."""
        return self._encoded(message) if isinstance(message, Texts) else self._asked(message)

    def _encoded(self, message: Texts) -> Prompts:
        tokenizer = self.llm.get_tokenizer()
        return tuple(tuple(tokenizer.encode(line)) for line in message.lines)

    def _asked(self, asked: Ask) -> Transcript | Seen:
        from gdn_verify.e2e.cores import core_of

        return self._watched(asked) if asked.watch else self._transcript(asked, core_of(asked.variant, self.host))

    def _begin(self, asked: Ask, core: Core, watcher: Watcher | None = None) -> None:
        from gdn_verify.e2e.seam import SEAM

        SEAM.begin(core, watcher, 1 + self.settings.drafts, asked.guide)
        self.llm.reset_prefix_cache()  # what is in it is another variant's

    def _failure(self, asked: Ask) -> tuple[str, tuple[str, ...]]:
        from gdn_verify.e2e.seam import SEAM

        return SEAM.raised, tuple(SEAM.shortcomings(self.layers, asked.variant.leaves))

    def _transcript(self, asked: Ask, core: Core) -> Transcript:
        from gdn_verify.e2e.seam import SEAM

        self._begin(asked, core)
        started = time.perf_counter()
        requests = [request for number in range(len(asked.rounds)) for request in self._round(asked, number)]
        raised, problems = self._failure(asked)
        events = {name: count for name, count in SEAM.account.events.items() if count}
        return Transcript(tuple(requests), events, problems, raised, time.perf_counter() - started)

    def _watched(self, asked: Ask) -> Seen:
        from gdn_verify.e2e.cores import core_of
        from gdn_verify.e2e.pinpoint import pinpoint
        from gdn_verify.e2e.seam import SEAM
        from gdn_verify.e2e.watch import Watch

        watch = Watch(path_of(whose(asked.variant.core, self.host.name)), self.host)
        self._begin(asked, core_of(asked.variant, self.host, watch.given), watch)
        with self._until(lambda: watch.wrong is not None):
            for number in range(len(asked.rounds)):
                if watch.wrong is None:
                    self._generated(asked, number)
        raised, problems = self._failure(asked)
        SEAM.end()
        if watch.wrong is None:
            return Seen(watch.launches, watch.unknown, None, "; ".join(filter(None, (raised, *problems))))
        return Seen(watch.launches, watch.unknown, pinpoint(watch.wrong, asked.variant, self.host))

    @contextmanager
    def _until(self, done: Callable[[], bool]) -> Iterator[None]:
        """Within it the engine lets go of all its requests after the first step behind which `done`."""
        engine = self.llm.llm_engine
        right = engine.step

        def step() -> Any:
            made = right()
            if done():
                engine.abort_request(list(engine.output_processor.request_states), internal=True)
            return made

        engine.step = step
        try:
            yield
        finally:
            del engine.step

    def _round(self, asked: Ask, number: int) -> Iterator[Request]:
        for prompt, made in zip(asked.rounds[number], self._generated(asked, number), strict=True):
            said = made.outputs[0]
            steps = tuple(
                Step(int(token), {int(t): float(found.logprob) for t, found in seen.items()})
                for token, seen in zip(said.token_ids, said.logprobs, strict=True)
            )
            yield Request(prompt, steps, int(made.num_cached_tokens or 0))

    def _generated(self, asked: Ask, number: int) -> Any:
        from vllm import SamplingParams

        prompts = asked.rounds[number]
        forced: Any = asked.forced[number] if asked.forced else [None] * len(prompts)
        parameters = [
            SamplingParams(
                temperature=0.0, max_tokens=asked.lengths[number], ignore_eos=True, logprobs=SHOWN, detokenize=False,
                extra_args=None if tokens is None else {"gdn_verify_tokens": list(tokens)},
            )
            for tokens in forced
        ]  # fmt: skip
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        return self.llm.generate(given, parameters, use_tqdm=False)


def gdn_layers(config: Any, folder: str) -> int:
    """How many layers of a model are Gated DeltaNet, by its text configuration. Raises ValueError where it has none."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        raise ValueError(
            f"the configuration of {folder} has no layer_types, so nobody knows in how many layers a core must run; "
            'add them to its config.json, as "linear_attention" or "full_attention" for each layer'
        )
    if not (count := sum(kind == "linear_attention" for kind in kinds)):
        raise ValueError(f"{folder}: none of its layers is linear_attention (layer_types={kinds}); ask for a GDN model")
    return count


def _llm(folder: str, settings: Settings, tokenizer: bool) -> Any:
    from vllm import LLM

    more: dict[str, Any] = {"num_gpu_blocks_override": settings.blocks} if settings.blocks else {}
    if sees(Path(folder)):
        # Text is all that is asked, and a first run on the largest picture takes as much memory as the model.
        more["limit_mm_per_prompt"] = {"image": 0, "video": 0}
    if settings.mtp:
        more["speculative_config"] = {"method": "mtp", "num_speculative_tokens": settings.drafts}
    elif settings.drafts:
        lookup = {"prompt_lookup_max": 3, "prompt_lookup_min": 1}
        more["speculative_config"] = {"method": "ngram", "num_speculative_tokens": settings.drafts, **lookup}
    else:
        more["logits_processors"] = [FORCING]
    usual = {
        "model": folder, "skip_tokenizer_init": not tokenizer, "dtype": settings.dtype, "enforce_eager": True,
        "seed": 0, "max_model_len": settings.length, "max_num_batched_tokens": settings.budget,
        "max_num_seqs": settings.seats, "enable_prefix_caching": settings.prefix_cache, "async_scheduling": False,
        "disable_log_stats": True, "max_logprobs": SHOWN,
    }  # fmt: skip
    return LLM(**{**usual, **more, **settings.given})


def sees(folder: Path) -> bool:
    """Whether a checkpoint is of a model that takes pictures too."""
    file = folder / "config.json"
    return file.is_file() and "vision_config" in json.loads(file.read_text(encoding="utf-8"))


def _require_plugin() -> None:
    """Raises RuntimeError where vLLM has not loaded this package's plugin, with the reason."""
    from gdn_verify.e2e import seam

    if seam.installed():
        return
    known = {entry.name: entry for entry in entry_points(group=PLUGINS)}
    if OURS not in known:
        raise RuntimeError(
            f"vLLM's environment has no plugin {OURS!r} of the group {PLUGINS}: install gdn-verify itself there "
            "(pip install --no-deps gdn-verify), not only its folder on the path"
        )
    put_in(os.environ[ASKED])  # raises what vLLM has swallowed
    raise RuntimeError(f"vLLM did not load its plugin {OURS!r}, though it can be loaded; see {ALLOWED}")


def _version() -> str:
    from vllm import __version__

    return f"vllm {__version__}"
