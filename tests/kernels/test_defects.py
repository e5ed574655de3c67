"""The launch check must fail on defects that shipped elsewhere, planted here one at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from gdn_verify.kernels import conv, delta, rows, stages

from .checking import check_launch
from .launches import Launch, launches

_legal_slots, _store, _locate = rows.legal_slots, delta._store, conv._locate


def heads_interleaved(x, heads):
    return x.unflatten(1, (x.shape[1] // heads, heads)).transpose(1, 2)


def pad_clamped_to_slot_0(indices, num_slots, pad_slot_id):
    return _legal_slots(indices, num_slots, pad_slot_id).clamp_min(0)


def pad_id_ignored(indices, num_slots, pad_slot_id):
    return _legal_slots(indices, num_slots, None)


def slot_0_always_padding(indices, num_slots, pad_slot_id):
    return _legal_slots(indices, num_slots, 0)


def accepted_count_ignored(tables, length):
    spec = torch.zeros_like(length, dtype=torch.bool)
    if tables.num_accepted_tokens is not None:
        spec = tables.spec_rows
    return spec, torch.zeros_like(length)


def stale_state_of_fresh_rows(state, live):
    return state[live.read.clamp_min(0)].float().contiguous()


def stale_history_of_fresh_rows(conv_pool, live, width):
    slot = torch.where(live.spec, live.slots[:, 0], live.read).clamp_min(0)
    return conv_pool[slot[:, None], :, live.back[:, None] + torch.arange(width - 1)]


def history_from_the_head(conv_pool, live, width):
    slot = torch.where(live.spec, live.slots[:, 0], live.read).clamp_min(0)
    history = conv_pool[slot, :, : width - 1].transpose(1, 2)
    return history.masked_fill(live.fresh[:, None, None], 0)


def short_rows_lose_their_history(conv_pool, live, history, stream):
    for i in range(len(live.index)):
        first, length = (1 if live.spec[i] else int(live.length[i])), int(live.length[i])
        for column in range(history.shape[1] + length - first):
            at = first + column - history.shape[1]
            value = stream[history.shape[0] * history.shape[1] + live.start[i] + at] if at >= 0 else 0
            conv_pool[live.slots[i, 0], :, column] = value


def whole_slot_overwritten(conv_pool, live, history, stream):
    first = torch.where(live.spec, 1, live.length)
    for i in range(len(live.index)):
        row = torch.full((conv_pool.shape[2],), i)
        at = (first[i] + torch.arange(conv_pool.shape[2])).clamp_max(history.shape[1] + live.length[i] - 1)
        conv_pool[live.slots[i, 0]] = stream[_locate(live, history, row, at)].T


def decay_after_update(h, q, k, v, decay, beta):
    u = beta * (v - (h * k).sum(-1))
    h = torch.addcmul(h, u[..., None], k) * decay
    return h, (h * q).sum(-1)


def decay_forgotten(h, q, k, v, decay, beta):
    u = beta * (v - (h * k).sum(-1))
    h = torch.addcmul(h, u[..., None], k)
    return h, (h * q).sum(-1)


def state_truncated(state, slots, h):
    kept = (slots >= 0).nonzero()[:, 0]
    narrow = h[kept].flatten(1, 2)
    if state.dtype == torch.bfloat16:
        narrow = (narrow.view(torch.int32) >> 16 << 16).view(torch.float32)
    state[slots[kept]] = narrow.to(state.dtype)


def norm_with_eps_on_the_mean(x, eps):
    x = x.float()
    return x / (x.square().sum(-1, keepdim=True) + eps * x.shape[-1]).sqrt()


DEFECTS = [
    (delta, "by_key_head", heads_interleaved),
    (delta, "_step", decay_after_update),
    (delta, "_step", decay_forgotten),
    (delta, "_initial", stale_state_of_fresh_rows),
    (delta, "_store", state_truncated),
    (rows, "legal_slots", pad_clamped_to_slot_0),
    (rows, "legal_slots", pad_id_ignored),
    (rows, "legal_slots", slot_0_always_padding),
    (rows, "_accepted", accepted_count_ignored),
    (conv, "_history", stale_history_of_fresh_rows),
    (conv, "_history", history_from_the_head),
    (conv, "_store_window", short_rows_lose_their_history),
    (conv, "_store_window", whole_slot_overwritten),
    (stages, "_unit", norm_with_eps_on_the_mean),
]

search = settings(
    deadline=None,
    max_examples=300,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


REACH = {
    "fresh row of one token": lambda launch: any(w.length == 1 and w.read is None for w in launch.live),
    "short row with history": lambda launch: any(
        w.length < launch.layer.conv_weight.shape[1] - 1 and w.conv_read is not None for w in launch.live
    ),
    "accepted beyond the tokens": lambda launch: any(w.spec and w.first_column >= w.length for w in launch.live),
    "dropped state": lambda launch: any(w.spec and len(w.writes) < w.length for w in launch.live),
    "separate read slot": lambda launch: any(w.read not in (None, w.conv_write) and not w.spec for w in launch.live),
    "spec row after a plain one": lambda launch: [w.spec for w in launch.live][-2:] == [False, True],
    "ratio 3, K and V differ": lambda launch: launch.live and launch.layer.geometry[1] == 3 * launch.layer.geometry[0],
    "narrow pool, wide tokens": lambda launch: launch.pool.dtype.itemsize < launch.qkvz.dtype.itemsize,
    "slot 0 live": lambda launch: any(w.conv_write == 0 for w in launch.live),
    "slot 0 padding": lambda launch: any(r.slots[0] == 0 and r.length for r in launch.rows) and launch.pad_slot_id == 0,
}


@pytest.mark.parametrize("condition", REACH)
def test_the_strategy_reaches(condition):
    """Launches that tell defects apart are drawn within a few hundred tries."""
    assert find(launches(), REACH[condition], settings=search) is not None


def fails(launch: Launch) -> bool:
    """Whether the launch check fails, or the launch itself does."""
    try:
        check_launch(launch)
    except (AssertionError, ValueError, IndexError):
        return True
    return False


def test_the_search_finds_nothing_wrong_without_a_defect():
    """The search of the next test is silent on the code as it is."""
    with pytest.raises(NoSuchExample):
        find(launches(), fails, settings=settings(search, max_examples=100))


@pytest.mark.parametrize(("module", "name", "defect"), DEFECTS, ids=[d.__name__ for _, _, d in DEFECTS])
def test_a_planted_defect_is_found(monkeypatch, module, name, defect):
    """Some launch of the usual strategy fails with the defect in place."""
    monkeypatch.setattr(module, name, defect)
    find(launches(), fails, settings=search)
