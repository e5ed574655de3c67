"""The stand-in for a captured graph: same buffers, same work, no host code, and no look at contents."""

from __future__ import annotations

import pytest
import torch

from gdn_verify.emulator.tape import CaptureError, recording


def test_a_replay_works_on_what_the_buffers_hold_now() -> None:
    """Fresh tensors, in-place operators and views alike."""
    x, out = torch.arange(4.0), torch.zeros(2, 2)

    def launch() -> None:
        y = (x * 2 + 1).reshape(2, 2)
        out.copy_(y.t())
        out[0] += y[1].sum()

    with recording() as tape:
        launch()
    for fill in (5.0, -3.0):
        x.copy_(torch.full((4,), fill).cumsum(0))
        out.zero_()
        tape.replay()
        replayed = out.clone()
        launch()
        assert torch.equal(replayed, out)


def test_what_python_decided_stays_decided() -> None:
    """A branch on a host's number is frozen, as in a graph; an eager launch takes the other one."""
    rows, out = [0, 1], torch.zeros(3)

    def launch() -> None:
        for row in rows:
            out[row] += 1

    with recording() as tape:
        launch()
    rows[:] = [2]
    out.zero_()
    tape.replay()
    assert out.tolist() == [1, 1, 0]


def test_memory_is_not_made_anew() -> None:
    """What a launch left in its own scratch is there when the next replay begins."""
    out = torch.zeros(1)

    def launch() -> None:
        scratch = torch.empty(1)
        out.copy_(scratch)
        scratch.fill_(7.0)

    with recording() as tape:
        launch()
    tape.replay()
    assert out.item() == 7.0


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: bool(x[0] > 0),
        lambda x: int(x[0]),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: range(x[0].int()),
        lambda x: x.long().unique(),
        lambda x: x.repeat_interleave(x.long()),
    ],
)
def test_a_look_at_contents_is_refused(look) -> None:
    """On a card it would wait for a stream that is being captured."""
    with pytest.raises(CaptureError, match="host"), recording():
        look(torch.ones(1))


def test_a_size_that_the_host_knows_is_taken() -> None:
    """Repeated so often as the device says, but so many in all as the host said."""
    x, counts, out = torch.arange(2.0), torch.tensor([1, 2]), torch.empty(3)
    with recording() as tape:
        out.copy_(x.repeat_interleave(counts, output_size=3))
    counts.copy_(torch.tensor([2, 1]))
    tape.replay()
    assert out.tolist() == [0.0, 0.0, 1.0]


def test_after_a_recording_all_is_as_before() -> None:
    """Nothing is refused and nothing recorded outside; an error within is the launch's own."""
    with pytest.raises(ZeroDivisionError), recording() as tape:
        raise ZeroDivisionError
    assert torch.ones(1).item() == 1.0
    assert len(tape) == 0
