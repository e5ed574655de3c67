"""Tiny models with real architectures, made here: gates and weights of theirs make the state matter.

transformers' own initialisation (std 0.02) gives a model whose next token hardly depends on what came before. Here
decays reach from a token to hundreds, projections keep the variance, the layers of Gated DeltaNet weigh three times as
much, and logits spread by 3: outputs vary, and an error in a state shows. Weights are bfloat16 numbers, so that a model
in float32 and one in bfloat16 have the same.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module

RECIPE = 1
"""Number of the recipe below: another one makes other models of the same fields."""


class Kind(StrEnum):
    """The architecture: dense Qwen3.5 (text), or Qwen3-Next with its experts."""

    QWEN3_5 = "qwen3.5"
    QWEN3_NEXT = "qwen3-next"


@dataclass(frozen=True)
class Checkpoint:
    """One tiny model: every fourth layer is attention, the others Gated DeltaNet with heads of 128.

    `H` key heads and `HV` value heads; vLLM's prompts on a CPU take head dimensions 64 and 128 alone, K = V. With `mtp`
    a layer that drafts lies beside them: engines load it, transformers passes over it.
    """

    kind: Kind = Kind.QWEN3_5
    seed: int = 1234
    hidden: int = 256
    layers: int = 4
    H: int = 2
    HV: int = 4
    head_dim: int = 128
    vocabulary: int = 512
    mtp: bool = False

    @property
    def name(self) -> str:
        """The folder's name: what it is, and a digest of all fields and of the recipe."""
        fields = {name: value for name, value in asdict(self).items() if name != "mtp" or value}
        text = json.dumps([RECIPE, fields], sort_keys=True)
        return f"{self.kind}-{blake2b(text.encode(), digest_size=4).hexdigest()}"

    @property
    def gdn_layers(self) -> int:
        """How many layers are Gated DeltaNet."""
        return self.layers - self.layers // 4

    def ensure(self, root: Path) -> Path:
        """The model's folder under `root`, made where it is not there yet; needs transformers."""
        folder = root / self.name
        if not (folder / "model.safetensors").exists():
            scratch = root / f"{self.name}.{os.getpid()}.part"
            _build(self, scratch)
            if folder.exists():
                return folder
            scratch.replace(folder)
        return folder


def _build(checkpoint: Checkpoint, folder: Path) -> None:
    import torch

    model = _model(checkpoint).to(torch.float32).eval()
    generator = torch.Generator().manual_seed(checkpoint.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_weights(name, parameter, generator))
    model = model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    if checkpoint.mtp:
        _add_drafter(folder, generator)
    _tokenizer(checkpoint).save_pretrained(folder)


DRAFTER = {"qwen3_5_text": "mtp_num_hidden_layers", "qwen3_next": "num_nextn_predict_layers"}
"""What a config calls the number of layers that draft (multi-token prediction), by its type."""


def _add_drafter(folder: Path, generator: Generator) -> None:
    """Add a layer that drafts to the saved model: one of attention, by the names and shapes of the model's own."""
    import torch
    from safetensors.torch import load_file, save_file

    file, settings = folder / "model.safetensors", folder / "config.json"
    weights, config = load_file(file), json.loads(settings.read_text(encoding="utf-8"))
    hidden, last = config["hidden_size"], f"model.layers.{config['num_hidden_layers'] - 1}."
    shapes = {name.replace(last, "mtp.layers.0."): like.shape for name, like in weights.items() if last in name}
    for norm in ("norm", "pre_fc_norm_hidden", "pre_fc_norm_embedding"):
        shapes[f"mtp.{norm}.weight"] = torch.Size([hidden])
    shapes["mtp.fc.weight"] = torch.Size([hidden, 2 * hidden])
    for name, shape in sorted(shapes.items()):
        weights[name] = _weights(name, torch.empty(shape), generator).to(torch.bfloat16)
    save_file(weights, file, {"format": "pt"})
    config[DRAFTER[config["model_type"]]] = 1
    settings.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _model(checkpoint: Checkpoint) -> Any:
    """transformers' model of this architecture, freshly made."""
    sizes: dict[str, Any] = {
        "vocab_size": checkpoint.vocabulary,
        "hidden_size": checkpoint.hidden,
        "intermediate_size": 2 * checkpoint.hidden,
        "num_hidden_layers": checkpoint.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "linear_num_key_heads": checkpoint.H,
        "linear_num_value_heads": checkpoint.HV,
        "linear_key_head_dim": checkpoint.head_dim,
        "linear_value_head_dim": checkpoint.head_dim,
        "linear_conv_kernel_dim": 4,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 1,
    }
    if checkpoint.kind is Kind.QWEN3_5:
        from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

        return Qwen3_5ForCausalLM(Qwen3_5TextConfig(**sizes))
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
    # vLLM refuses this architecture without a layer of experts.
    config = Qwen3NextConfig(**sizes, **experts, shared_expert_intermediate_size=128, mlp_only_layers=[])
    return Qwen3NextForCausalLM(config)


def _weights(name: str, like: Tensor, generator: Generator) -> Tensor:
    """A parameter's values by what it is for; float32, of the shape of `like`."""
    import torch

    def normal(scale: float) -> Tensor:
        return scale * torch.randn(like.shape, generator=generator)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    if name.endswith("A_log"):
        return uniform(math.log(0.02), math.log(2.0))
    if name.endswith("dt_bias"):
        return uniform(-4.0, 0.0)
    if "norm" in name and like.ndim == 1:
        return normal(0.1) + (1.0 if "linear_attn" in name else 0.0)  # other norms scale by 1 + weight
    if "embed_tokens" in name:
        return normal(1.0)
    if "conv1d" in name:
        return normal(0.5)
    gain = 3.0 if "linear_attn.out_proj" in name or "lm_head" in name else 1.0
    return normal(gain / math.sqrt(like.shape[-1]))


def _tokenizer(checkpoint: Checkpoint) -> Any:
    """Words "t2", "t3", …, for engines that insist on a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<eos>": 0, "<pad>": 1, **{f"t{n}": n for n in range(2, checkpoint.vocabulary)}}
    made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", pad_token="<pad>")


def gdn_modules(model: Module) -> list[str]:
    """Names of a transformers model's Gated DeltaNet layers."""
    return [name for name, _ in model.named_modules() if name.endswith("linear_attn")]
