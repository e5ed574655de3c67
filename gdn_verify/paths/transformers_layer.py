"""transformers' layers of Qwen3-Next and Qwen3.5, projections cut off, with the cache that they keep.

Read from transformers 5.24. Their linear projections are replaced by slices of what the launch gives, q|k|v|z and b|a,
and the last one by nothing; the rest is the module's own forward over a cache of its own class: unpacking, conv, gates,
delta rule, gated norm. Rows without a state go as one batch, padded on the left with tokens that a mask hides; resumed
rows as one of each length, as padding would come between a state and its next token. A resumed row of one token takes
`causal_conv1d_update` and the recurrent function, any other `causal_conv1d_fn` and the chunked one.

Functions that other packages may stand in for (`fla`, `causal-conv1d`) are taken from behind their decorators. Options
that no released model has but the module reads are set on it: a conv bias, another activation. With a bias hidden
tokens are not nothing, and write to the state: then there is no padding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from inspect import unwrap
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import (
    Activation,
    Capabilities,
    DType,
    Group,
    Packing,
    Padding,
    Span,
    Stage,
    StateOrder,
)
from gdn_verify.cases.presentation import Presentation
from gdn_verify.oracles.noise import Rounding
from gdn_verify.oracles.rounding import CONV, GATES, NORM, chunked_float32, overlaid, sequential_float32
from gdn_verify.oracles.sites import Site
from gdn_verify.paths.base import Launch, Missing, Outputs, Path
from gdn_verify.paths.gathered import conv_windows, put_conv_windows, put_states, states

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

SINCE = "5.24"
"""The version from which on the cache is as it is driven here."""
DELTA = ("torch_recurrent_gated_delta_rule", "torch_chunk_gated_delta_rule")
REPLACED = (*DELTA, "causal_conv1d_fn", "causal_conv1d_update")
NO_PADDING: frozenset[Padding] = frozenset()


@dataclass(frozen=True)
class Model:
    """Which layer, how its projections are packed, and how many features each of them has."""

    module: str
    prefix: str
    packing: Packing
    projections: Callable[[int, int, int], dict[str, tuple[int, int]]]

    def layer(self) -> Any:
        """The layer's class."""
        return getattr(import_module(self.module), f"{self.prefix}GatedDeltaNet")


def _pairs(qkv: int, z: int, heads: int) -> dict[str, tuple[int, int]]:
    """Where qkvz and ba begin and end."""
    return {"in_proj_qkvz": (0, qkv + z), "in_proj_ba": (qkv + z, qkv + z + 2 * heads)}


def _singles(qkv: int, z: int, heads: int) -> dict[str, tuple[int, int]]:
    """Where q|k|v, z, b and a do."""
    edges = (0, qkv, qkv + z, qkv + z + heads, qkv + z + 2 * heads)
    names = ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a")
    return {name: edges[at : at + 2] for at, name in enumerate(names)}  # type: ignore[misc]


MODELS = {
    "qwen3-next": Model("transformers.models.qwen3_next.modeling_qwen3_next", "Qwen3Next", Packing.INTERLEAVED, _pairs),
    "qwen3-5": Model("transformers.models.qwen3_5.modeling_qwen3_5", "Qwen3_5", Packing.FLAT, _singles),
}


class TransformersLayer(Path):
    """A layer in one type of numbers; the recurrent state is float32 whatever that is."""

    hosts = ("cpu", "cuda", "rocm")

    def __init__(self, name: str, dtype: DType = DType.F32) -> None:
        self.model = MODELS[name]
        self.name = f"transformers-{name}" + ("" if dtype is DType.F32 else f"-{dtype}")
        self.variant = dtype is not DType.F32
        one = frozenset({dtype})
        self.capabilities = Capabilities(
            span=Span(Stage.UNPACK, Stage.NORM),
            groups=frozenset({Group.DECODE, Group.PREFILL}),
            min_tokens=1,
            packings=frozenset({self.model.packing}),
            paddings=NO_PADDING,
            states=frozenset({DType.F32}),
            state_orders=frozenset({StateOrder.KV}),
            activations=one,
            conv_states=one,
            weights=one,
            scales=False,
        )

    def missing(self, host: str) -> Missing | None:
        from packaging.version import Version

        if find_spec("transformers") is None:
            return Missing("transformers is not installed", "pip install 'gdn-verify[transformers]'")
        if Version(found := version("transformers")) < Version(SINCE):
            return Missing(f"transformers {found} has another cache", f"pip install 'transformers>={SINCE}'")
        return None

    def load(self, host: str) -> str:
        assert self.model.layer() is not None
        return version("transformers")

    def run(self, launch: Launch) -> Outputs:
        import torch

        hidden = torch.cat([launch["qkvz"], launch["ba"]], dim=1)
        hidden = torch.cat([hidden, hidden.new_ones(1, hidden.shape[1])])  # the last is for padding
        recurrent, windows = states(launch), conv_windows(launch)
        order: list[Tensor] = []
        with torch.no_grad(), _watched(self.model, launch) as (layer, seen):
            for rows in _alike(launch):
                cache = _cache(launch, rows, recurrent, windows)
                tokens = _tokens(launch, rows)
                real = tokens >= 0
                seen["out"].append(layer(hidden[tokens], cache, None if real.all() else real).flatten(0, 1))
                recurrent[rows], windows[rows] = cache.layers[0].recurrent_states[0], cache.layers[0].conv_states[0]
                order.append(tokens.flatten())
        put_states(launch, recurrent)
        put_conv_windows(launch, windows)
        if not order:
            return Outputs(o=launch["out"])
        back = torch.argsort(torch.cat(order))[-launch.batch.tokens :]  # before them is padding
        found = {name: torch.cat(pieces)[back] for name, pieces in seen.items()}
        launch["out"].copy_(found.pop("out").view_as(launch["out"]))
        launch["z_out"].copy_(found.pop("z"))
        return Outputs(o=launch["out"], stages=found)

    def rounding(self, case: Case, presentation: Presentation, host: str) -> Rounding:
        K, dtype = case.geometry.K, case.dtypes.activation
        rows = (row for batch in case.batches for row in batch.rows)
        if all(row.tokens == 1 and not row.fresh for row in rows):
            delta = sequential_float32(case.dtypes, store=DType.F32)
        else:
            delta = chunked_float32(case.dtypes, store=DType.F32, solves=True, serial=K)
        stored = dict.fromkeys((Site.CONV_OUT, Site.BETA, Site.NORM_OUT), (dtype, 1.0))
        around = {**CONV, **GATES, **NORM, **stored}
        if dtype is not DType.F32:  # the conv before its activation, and o · rsqrt before and after the weight
            around |= {Site.CONV_SUM: (dtype, 1), Site.NORM_VALUE: (dtype, 2)}
        return overlaid(delta, around)


@contextmanager
def _watched(model: Model, launch: Launch) -> Iterator[tuple[Module, dict[str, list[Tensor]]]]:
    """The layer of a launch, its functions plain, and lists that fill with what passes between its stages."""
    seen: dict[str, list[Tensor]] = defaultdict(list)
    module = import_module(model.module)
    plain = {name: unwrap(getattr(module, name)) for name in REPLACED}
    plain |= {name: _keeping(plain[name], seen) for name in DELTA}
    layer = _layer(model, launch)

    def before_norm(_: Module, given: tuple[Tensor, Tensor]) -> None:
        heads = (-1, launch.geometry.HV, launch.geometry.V)
        seen["o"].append(given[0].reshape(heads))
        seen["z"].append(given[1].reshape(heads))

    layer.norm.register_forward_pre_hook(before_norm)
    with patch.multiple(module, **plain):
        yield layer, seen


def _keeping(function: Callable[..., Any], seen: dict[str, list[Tensor]]) -> Callable[..., Any]:
    """The delta rule's function, and its arguments kept."""
    import torch

    def call(query: Tensor, key: Tensor, value: Tensor, **named: Any) -> Any:
        seen["conv"].append(torch.cat([part.flatten(2) for part in (query, key, value)], dim=2).flatten(0, 1))
        seen["g"].append(named["g"].flatten(0, 1))
        seen["beta"].append(named["beta"].flatten(0, 1))
        return function(query, key, value, **named)

    return call


def _layer(model: Model, launch: Launch) -> Any:
    """The module with the launch's parameters, slices for its projections."""
    from torch.nn import Identity, Parameter

    g, options = launch.geometry, launch.options
    layer = model.layer()(_config(launch), 0).eval()
    for name, (first, last) in model.projections(g.D, g.HV * g.V, g.HV).items():
        setattr(layer, name, _part(first, last))
    layer.out_proj = Identity()
    layer.conv1d.weight = Parameter(launch["conv_weight"][:, None])
    layer.conv1d.bias = None if (bias := launch.get("conv_bias")) is None else Parameter(bias)
    layer.A_log, layer.dt_bias = Parameter(launch["A_log"]), Parameter(launch["dt_bias"])
    layer.norm.weight, layer.norm.activation = Parameter(launch["norm_weight"]), options.norm_activation.value
    return layer


def _config(launch: Launch) -> SimpleNamespace:
    """What a layer reads of its model; the projections are replaced, so that their width is 1."""
    g, silu = launch.geometry, launch.options.conv_activation is Activation.SILU
    return SimpleNamespace(
        hidden_size=1, linear_num_value_heads=g.HV, linear_num_key_heads=g.H, linear_key_head_dim=g.K,
        linear_value_head_dim=g.V, linear_conv_kernel_dim=g.W, hidden_act="silu" if silu else None,
        rms_norm_eps=launch.options.norm_eps, layer_types=["linear_attention"],
    )  # fmt: skip


def _part(first: int, last: int) -> Module:
    """A module that gives some of the features it is given."""
    from torch.nn import Module

    class Part(Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return hidden[..., first:last]

    return Part()


def _alike(launch: Launch) -> list[list[int]]:
    """Rows that can go as one batch: all without a state, or all with one and of one length."""
    groups: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for number, row in enumerate(launch.batch.rows):
        padded = row.fresh and not launch.options.conv_bias
        groups[row.fresh, 0 if padded else row.tokens].append(number)
    return list(groups.values())


def _tokens(launch: Launch, rows: list[int]) -> Tensor:
    """Where the tokens of some rows lie, [B, L], shorter ones behind -1."""
    import torch

    starts = launch.batch.query_start_loc
    ranges = [range(starts[row], starts[row + 1]) for row in rows]
    longest = max(map(len, ranges))
    filled = [[-1] * (longest - len(row)) + [*row] for row in ranges]
    return torch.tensor(filled, device=launch["qkvz"].device)


def _cache(launch: Launch, rows: list[int], recurrent: Tensor, windows: Tensor) -> Any:
    """A cache of one layer as an earlier call has left it, or as it is before the first."""
    from transformers.cache_utils import Cache, LinearAttentionLayer

    layer = LinearAttentionLayer()
    if not launch.batch.rows[rows[0]].fresh:
        layer.update_conv_state(windows[rows], conv_kernel_size=launch.geometry.W)
        layer.update_recurrent_state(recurrent[rows])
    return Cache(layers=[layer])


def paths() -> Iterable[Path]:
    """Both layers, in float32 and as they are served."""
    return [TransformersLayer(name, dtype) for name in MODELS for dtype in (DType.F32, DType.BF16)]
