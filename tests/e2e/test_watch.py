"""A run in a stand-in engine, looked at launch by launch: a healthy one is right, a fault is found and made a case."""

from __future__ import annotations

import pytest
import torch
from toy_engine import LAYER, ToyEngine

from gdn_verify.cases.codec import loads
from gdn_verify.e2e.cores import core_of
from gdn_verify.e2e.pinpoint import Pinpointed, pinpoint
from gdn_verify.e2e.seam import Call, Core
from gdn_verify.e2e.variant import path_of, variant
from gdn_verify.e2e.watch import Tier, Watch
from gdn_verify.hosts import HOSTS

CPU = HOSTS["cpu"]
PROMPTS = ([5], [7, 8, 9], list(range(2, 22)), [30, 31, 32, 33, 34])
SECOND = ([40, 41], [9], [11, 12, 13, 14], [3] * 11)


def watched(word: str, engine: ToyEngine | None = None, around: Core | None = None) -> tuple[Watch, ToyEngine]:
    """Two rounds on a core, looked at."""
    engine, wanted = engine or ToyEngine(), variant(word)
    watch = Watch(path_of(wanted.core), CPU)
    core = around or core_of(wanted, CPU, watch.given)
    for prompts in (PROMPTS, SECOND):
        engine.generate(prompts, 5, core, watch)
    return watch, engine


@pytest.mark.parametrize("word", ["oracle", "dispatch-o"])
def test_a_healthy_core_is_right_in_every_launch(word: str) -> None:
    """And every row's state is known."""
    watch, _ = watched(word)
    assert watch.wrong is None
    assert watch.launches > 15
    assert watch.unknown == 0


def test_both_say_the_same_tokens() -> None:
    """Tokens that vary."""
    said = []
    for word in ("oracle", "dispatch-o"):
        engine = ToyEngine()
        said.append([engine.generate(prompts, 6, core_of(variant(word), CPU)) for prompts in (PROMPTS, SECOND)])
    assert said[0] == said[1]
    assert len({token for round in said[0] for tokens in round for token in tokens}) > 10


FAULTS = {
    "dropped_decay": Tier.KERNEL,
    "beta_times_0_999": Tier.KERNEL,
    "tiled_heads": Tier.KERNEL,
    "neighbour_slot": Tier.KERNEL,
    "history_replaced_by_zeros": Tier.KERNEL,
    "window_of_resumed_prompts_forgotten": Tier.KERNEL,
    "resumed_prompts_lose_their_state": Tier.TABLES,
    "second_step_in_the_first_ones_slot": Tier.TABLES,
    "one_token_chunk_as_decode": Tier.TABLES,
    "recycled_slot_not_cleared": Tier.TABLES,
    "every_row_resumed": Tier.TABLES,
    "zeros_after_a_resize": Tier.TABLES,
    "beginner_keeps_the_slot": Tier.TABLES,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_becomes_a_case(fault: str) -> None:
    """In its tier; the suite's own check of paths or tables fails the case."""
    wanted = variant(f"dispatch-o!{fault}")
    watch, _ = watched(str(wanted))
    assert watch.wrong is not None
    assert watch.wrong.tier is FAULTS[fault]
    assert watch.wrong.layer == LAYER
    found = pinpoint(watch.wrong, wanted, CPU)
    assert found.found, found.message
    assert loads(found.case).case.batches
    assert found.path == ("tables" if fault in ("every_row_resumed", "zeros_after_a_resize", "beginner_keeps_the_slot")
                          else "dispatch-o")  # fmt: skip


def test_a_state_that_is_lost_between_two_launches_is_a_handover() -> None:
    """No launch is to blame."""
    engine, right = ToyEngine(), core_of(variant("oracle"), CPU)
    launches = 0

    def losing(call: Call) -> None:
        nonlocal launches
        launches += 1
        right(call)

    watch = Watch(path_of("oracle"), CPU)
    original = engine.seam.called

    def called(call: Call) -> None:
        if launches == 4:
            engine.ssm[call.launch.batch.rows[0].slots[0] or 0] += 1.0
        original(call)

    engine.seam.called = called  # type: ignore[method-assign]
    engine.generate(PROMPTS, 5, losing, watch)
    assert watch.wrong is not None
    assert watch.wrong.tier is Tier.HANDOVER
    assert "no launch left" in watch.wrong.message


def test_a_healthy_launch_makes_no_case() -> None:
    """The same rows on a right core."""
    watch, _ = watched("dispatch-o!dropped_decay")
    assert watch.wrong is not None
    found: Pinpointed = pinpoint(watch.wrong, variant("dispatch-o"), CPU)
    assert not found.case
    assert not found.command


def test_an_output_that_is_wrong_by_less_than_its_size_is_found_in_bfloat16_too() -> None:
    """Though nothing else is, states exact among it, and by fewer units of roundoff than a float32's may be."""
    right = core_of(variant("oracle"), CPU)

    def louder(call: Call) -> None:
        right(call)
        call.launch["out"][:1] *= 1.2

    watch, _ = watched("oracle", ToyEngine(dtype=torch.bfloat16), right)
    assert watch.wrong is None
    watch, _ = watched("oracle", ToyEngine(dtype=torch.bfloat16), louder)
    assert watch.wrong is not None
    assert watch.wrong.tier is Tier.KERNEL
