"""The parts of a repro that are the same for all: the oracle in a few lines of float64, and how results are looked at.

The equations are the contract's, in its order; a stage that a path's span lacks leaves no line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gdn_verify.cases.case import Case
from gdn_verify.cases.contract import Activation, Span, Stage

GUARD = """\
sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
nan, inf, bad, device = float("nan"), float("inf"), [], "{device}"
"""
PUT = """
def put(values, strides, ahead=0):  # laid out so, NaN in its holes, so many elements behind an aligned place
    size = ahead + sum((n - 1) * s for n, s in zip(values.shape, strides)) + 1
    room = values.new_full((size,), nan if values.is_floating_point() else 99, device=device)
    return room.as_strided(values.shape, strides, ahead).copy_(values)
"""
PUT_APART = """
rooms = []
def put(values, strides, ahead=0):  # laid out so, with as much around it as the next slot takes, NaN there and in holes
    edge = ahead + 64 + max(strides, default=0) // 64 * 64
    size = edge + sum((n - 1) * s for n, s in zip(values.shape, strides)) + 65 + max(strides, default=0)
    room = values.new_full((size,), nan if values.is_floating_point() else 99, device=device)
    rooms.append((room.as_strided(values.shape, strides, edge).copy_(values), room, room.clone()))
    return rooms[-1][0]
"""
AROUND = """\
for view, room, before in rooms:
    own = [each.as_strided(view.shape, view.stride(), view.storage_offset()).zero_() for each in (room, before)]
    if not room.isclose(before, 0, 0, True).all():
        bad.append(print("written around", next(n for n, v in list(globals().items()) if v is view)))
"""
RAW = """
def raw(text, shape, dtype):
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=dtype).reshape(shape)
"""
FILLED = """
def filled(make):  # new memory holds NaN: what it holds must not matter
    return lambda *a, **k: new.fill_(nan) if (new := make(*a, **k)).is_floating_point() else new
"""
FILLING = """\
torch.empty, torch.empty_like = filled(torch.empty), filled(torch.empty_like)
torch.Tensor.new_empty = filled(torch.Tensor.new_empty)
"""
LOOK = """
def look(name, got, want, most=None):  # rows of the last axis: each within its budget of rounding, or the same
    got, want = got.cpu(), want.cpu()
    right = got.isclose(want, 0, 0, True).all(-1) if most is None else (got - want).norm(dim=-1) <= most
    for at in (~right).nonzero().tolist()[:3]:
        bad.append(print(f"{name}{at}: expected {want[tuple(at)].tolist()}, got {got[tuple(at)].tolist()}") or name)
"""


def caught(calls: Iterable[str]) -> Iterator[str]:
    """The calls, where what they raise is the bug."""
    yield "try:"
    yield from (f"    {call}" for call in calls)
    yield "except Exception as error:"
    yield '    sys.exit(print(f"raised {error!r}") or 1)'


def functions(case: Case, span: Span) -> str:
    """Names of `torch.nn.functional` that the oracle needs."""
    conv = Stage.CONV in span and case.options.conv_activation is Activation.SILU
    norm = Stage.NORM in span and case.options.norm_activation is Activation.SILU
    return ", ".join(name for name, used in (("silu", conv or norm), ("softplus", Stage.GATES in span)) if used)


def oracle(case: Case, span: Span) -> Iterator[str]:
    """`right(first, last, h, past)`: o of a row's tokens [L, HV, V], and h after each of them [L, HV, V, K]."""
    g, options, of = case.geometry, case.options, "[first:last]"
    yield f"def right(first, last, h{', past' if Stage.CONV in span else ''}):  # a row's tokens, in float64"
    if Stage.CONV in span:
        bias = " + conv_bias.double().cpu()" if options.conv_bias else ""
        conv = f"(torch.cat([past, X{of}]).unfold(0, {g.W}, 1) * conv_weight.double().cpu()).sum(-1){bias}"
        yield f"    y = silu({conv})" if options.conv_activation is Activation.SILU else f"    y = {conv}"
        parts = f"y.split([{g.H * g.K}, {g.H * g.K}, {g.HV * g.V}], 1)"
        yield f"    q, k, v = (x.unflatten(1, (-1, n)) for x, n in zip({parts}, [{g.K}, {g.K}, {g.V}]))"
    else:
        yield f"    q, k, v = Q{of}, K{of}, V{of}"
    if Stage.GATES in span:
        decay = f"(-A_log.double().cpu().exp() * softplus(A{of} + dt_bias.double().cpu())).exp()"
        yield f"    decay, rate = {decay}, {options.beta_scale} * B{of}.sigmoid()"
    else:
        yield f"    decay, rate = G{of}.exp(), BETA{of}"
    if not span.qk_normalised:
        yield f"    q, k = (y / (y.square().sum(-1, keepdim=True) + {options.qk_eps}).sqrt() for y in (q, k))"
    yield f"    q, k, o, states = q.repeat_interleave({g.ratio}, 1), k.repeat_interleave({g.ratio}, 1), [], []"
    yield "    for t in range(last - first):"
    yield "        h = h * decay[t, :, None, None]"
    yield "        h = h + (rate[t, :, None] * (v[t] - (h @ k[t, :, :, None])[..., 0]))[..., None] * k[t, :, None]"
    yield f"        o, states = [*o, {options.q_scale(g)!r} * (h @ q[t, :, :, None])[..., 0]], [*states, h]"
    yield "    o = torch.stack(o)"
    if Stage.NORM in span:
        gate = f"Z{of}.sigmoid()" if options.norm_activation is Activation.SIGMOID else f"silu(Z{of})"
        norm = f"(o.square().mean(-1, keepdim=True) + {options.norm_eps}).rsqrt()"
        yield f"    o = o * {norm} * norm_weight.double().cpu() * {gate}"
    yield "    return o, states"
