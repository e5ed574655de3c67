"""Layers of known models, whole or as one shard of several: what a bench runs on by default."""

from __future__ import annotations

from gdn_verify.cases.contract import Geometry

# Qwen3-Next-80B-A3B's config.json; Qwen3.5-27B's has three value heads a key head.
MODELS = {"qwen3-next": Geometry(16, 32, 128, 128), "qwen3.5": Geometry(16, 48, 128, 128)}
SHARDS = (1, 2, 4, 8)


def presets() -> dict[str, Geometry]:
    """By name: a model, and `model/n` for one of n shards of its heads (tensor parallelism)."""
    made = {}
    for name, model in MODELS.items():
        for shards in SHARDS:
            shard = Geometry(model.H // shards, model.HV // shards, model.K, model.V, model.W)
            made[name if shards == 1 else f"{name}/{shards}"] = shard
    return made


def geometry(words: str) -> Geometry:
    """A preset's name, or "H,HV,K,V". Raises ValueError for anything else (ContractError is one)."""
    if found := presets().get(words):
        return found
    try:
        H, HV, K, V = (int(number) for number in words.split(","))
    except ValueError:
        known = ", ".join(presets())
        raise ValueError(f"geometry={words!r}: give H,HV,K,V or one of {known}") from None
    return Geometry(H, HV, K, V)
