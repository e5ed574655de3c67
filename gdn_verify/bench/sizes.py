"""Bytes and layers: what a launch must move, and how many layers keep the caches cold."""

from __future__ import annotations

from math import ceil, prod

from torch import Tensor

from gdn_verify.bench.contender import AnyInputs, Setting
from gdn_verify.bench.inputs import ACTIVATION
from gdn_verify.cases.contract import DType, Span, Stage

LAYERS = 36
PREFILL_LAYERS = 4
"""A prefill takes long enough for a replay's own cost to vanish in a few."""
RECURRENCE = Span(Stage.DELTA, Stage.DELTA)
COLD = 4
"""A replay reads at least this many times the caches' size before it comes to a layer again."""
_SHARE = 0.7
"""Of the free memory; the rest is for graphs, workspaces and the allocator's blocks."""


def slot_bytes(setting: Setting) -> int:
    """Bytes of one row's state."""
    g = setting.geometry
    return g.HV * g.V * g.K * setting.state.itemsize


def state_bytes(setting: Setting) -> int:
    """Bytes of the states that a launch reads and writes."""
    return (setting.states_read + setting.states_written) * slot_bytes(setting)


def floor_bytes(setting: Setting, span: Span) -> int:
    """The fewest bytes that a launch of these stages moves: each input read once, each output written once.

    A row reads one state, unless it is fresh, and writes one a token of a decode, one at its end in a prefill; it reads
    W-1 columns of conv state and writes W-2+S. Parameters and the slot ids are read once. Without the conv, q, k and v
    come in its place, and without the gates g and β.
    """
    g, T = setting.geometry, setting.tokens
    conv, gates, norm = (stage in span for stage in (Stage.CONV, Stage.GATES, Stage.NORM))
    activations = T * (g.D + g.HV * g.V * (2 if norm else 1))  # q | k | v and the result, z for the norm
    activations += setting.rows * g.D * (g.W - 1 + g.W - 2 + g.S) * conv
    activations += T * 2 * g.HV * gates  # b and a
    weights = g.D * g.W * conv + g.V * norm
    wide = 2 * g.HV * gates + T * 2 * g.HV * (not gates)  # A_log and dt_bias, or g and β
    return (
        state_bytes(setting)
        + (activations + weights) * ACTIVATION.itemsize
        + (wide + setting.states_written) * DType.F32.itemsize
    )


def cold_bytes(setting: Setting) -> int:
    """What a layer reads or writes that must not be found in a cache: a decode's states, all that a prefill moves."""
    return floor_bytes(setting, RECURRENCE) if setting.lengths else setting.rows * slot_bytes(setting)


def stored_bytes(inputs: AnyInputs) -> int:
    """Device memory of one layer's tensors."""
    tensors = (value for value in vars(inputs).values() if isinstance(value, Tensor))
    return sum(prod(tensor.shape) * tensor.element_size() for tensor in tensors)


class TooLargeError(RuntimeError):
    """A setting that does not fit the device with cold caches."""


def layers(setting: Setting, cache_bytes: int, free_bytes: int, stored: int, usual: int = LAYERS) -> int:
    """Layers to capture: `usual`, more where these would not be `COLD` times the caches, fewer where memory is short.

    `stored` is the memory of one layer in all the stacks that are alive at once. Raises TooLargeError where memory does
    not hold enough layers for cold caches.
    """
    needed = max(1, ceil(COLD * cache_bytes / cold_bytes(setting)))
    fitting = int(_SHARE * free_bytes) // stored
    if fitting < needed:
        raise TooLargeError(
            f"{needed} layers of {stored / 2**20:.0f} MiB are needed for cold caches and {fitting} fit "
            f"into {free_bytes / 2**30:.1f} GiB; choose fewer rows or contenders"
        )
    return min(max(usual, needed), fitting)
