"""This project's own kernels as contenders: one launch as chosen or in every configuration, two launches, drafts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import gdn_verify
from gdn_verify.bench.contender import Contender, Inputs, Launch, Missing, Results, Setting
from gdn_verify.cases.contract import Span, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from gdn_verify.kernels.fallback import Layer
    from gdn_verify.kernels.triton.config import Config, SpecConfig

WHOLE = Span(Stage.UNPACK, Stage.NORM)
UN_NORMED = Span(Stage.UNPACK, Stage.DELTA)
RECURRENCE = Span(Stage.GATES, Stage.DELTA)
Prepare = Callable[[Inputs], Launch]
Refuses = Callable[[Setting], str | None]


def contenders(settings: Sequence[Setting], every_configuration: bool) -> Iterator[Contender | Missing]:
    """Our kernels that take one of the settings; with `every_configuration` also each one that may be chosen there."""
    if not find_spec("triton"):
        yield Missing("gdn-verify", "triton is not installed", "pip install 'gdn-verify[interpreter]'")
        return
    for contender in (*_chosen(), *(_configurations(settings) if every_configuration else ())):
        if any(contender.refuses(setting) is None for setting in settings):
            yield contender


def _chosen() -> Iterator[Contender]:
    yield _ours("fused-decode", WHOLE, _fused(None), decode_only, path="fused-decode")
    yield _ours("fused-decode-o", UN_NORMED, _fused(None, norm=False), decode_only, path="fused-decode-o")
    yield _ours("two-launch-decode", UN_NORMED, _two_launches, decode_only, path="two-launch-decode")
    yield _ours("delta-update", RECURRENCE, _recurrence, decode_only)
    yield _ours("fused-spec", WHOLE, _drafts(None), drafts_only, path="fused-spec")


def _ours(name: str, span: Span, prepare: Prepare, refuses: Refuses, path: str = "") -> Contender:
    return Contender(name, gdn_verify.__version__, span, prepare, refuses, path=path)


def decode_only(setting: Setting) -> str | None:
    """Why a kernel for one token a row does not take a setting, or None."""
    return f"decodes one token a row, not S={setting.geometry.S}" if setting.geometry.S > 1 else None


def drafts_only(setting: Setting) -> str | None:
    """Why a kernel for drafts does not take a setting, or None."""
    return "verifies drafts, and S=1 is none" if setting.geometry.S == 1 else None


def _configurations(settings: Sequence[Setting]) -> Iterator[Contender]:
    """Those of all settings for each of them: a tile fits any state, and a choice is only as good as what it beat."""
    from gdn_verify.kernels.triton.config import Sizes, configurations, spec_configurations
    from gdn_verify.kernels.triton.target import current_target

    target = current_target()
    shapes = [(setting.geometry, setting.state.itemsize) for setting in settings]
    sizes = dict.fromkeys((g.S, Sizes(g.H, g.HV, g.K, g.V, itemsize)) for g, itemsize in shapes)
    for config in dict.fromkeys(config for _, size in sizes for config in configurations(target, size)):
        yield _ours(f"fused-decode {config.name}", WHOLE, _fused(config), decode_only)
    for spec in dict.fromkeys(config for width, size in sizes for config in spec_configurations(target, width, size)):
        yield _ours(f"fused-{spec.name}", WHOLE, _drafts(spec), drafts_only)


def layer(inputs: Inputs, norm: bool = True) -> Layer:
    """The layer's parameters as our kernels take them."""
    from gdn_verify.kernels.fallback import Layer

    g, weight = inputs.geometry, inputs.norm_weight if norm else None
    return Layer(
        g.H, g.HV, g.K, g.V, inputs.conv_weight, inputs.A_log, inputs.dt_bias,
        norm_weight=weight, norm_eps=inputs.norm_eps,
    )  # fmt: skip


def _fused(config: Config | None, norm: bool = True) -> Prepare:
    def prepare(inputs: Inputs) -> Launch:
        from gdn_verify.kernels.triton.decode import fused_decode

        tickets = _tickets(inputs)
        operands = (inputs.qkvz, inputs.ba, layer(inputs, norm), inputs.conv_pool, inputs.pool, inputs.state_indices)
        return lambda: Results(fused_decode(*operands, output=inputs.out, config=config, tickets=tickets))

    return prepare


def _two_launches(inputs: Inputs) -> Launch:
    import torch

    from gdn_verify.kernels.triton.two_launch import conv_update, delta_update

    parameters, z = layer(inputs, norm=False), torch.empty_like(inputs.out)
    mixed = torch.empty_like(inputs.conv_out)

    def launch() -> Results:
        conv_update(inputs.qkvz, parameters, inputs.conv_pool, inputs.state_indices, mixed, z)
        return Results(delta_update(mixed, inputs.ba, parameters, inputs.pool, inputs.state_indices, inputs.out))

    return launch


def _recurrence(inputs: Inputs) -> Launch:
    from gdn_verify.kernels.triton.two_launch import delta_update

    operands = (inputs.conv_out, inputs.ba, layer(inputs, norm=False), inputs.pool, inputs.state_indices, inputs.out)
    return lambda: Results(delta_update(*operands))


def of_drafts(inputs: Inputs) -> tuple[Any, ...]:
    """The operands of a `fused_spec_decode`."""
    assert inputs.num_accepted_tokens is not None  # `drafts_only`
    return (
        inputs.qkvz, inputs.ba, layer(inputs), inputs.conv_pool, inputs.pool,
        inputs.state_indices, inputs.query_start_loc, inputs.num_accepted_tokens,
    )  # fmt: skip


def _drafts(config: SpecConfig | None) -> Prepare:
    def prepare(inputs: Inputs) -> Launch:
        from gdn_verify.kernels.triton.spec import fused_spec_decode

        operands = of_drafts(inputs)
        options: dict[str, Any] = {"output": inputs.out, "config": config, "tickets": _tickets(inputs)}
        return lambda: Results(fused_spec_decode(*operands, **options))

    return prepare


def _tickets(inputs: Inputs) -> Tensor:
    """The pool's counters, made before anything is captured."""
    from gdn_verify.kernels.triton.tickets import make_tickets

    return make_tickets(len(inputs.pool), inputs.geometry.H, inputs.pool.device)
