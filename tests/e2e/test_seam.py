"""What an engine hands a core, in the contract's words, and the counts that show whose core ran."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from toy_engine import LAYER, ToyEngine

from gdn_verify.cases.case import Row
from gdn_verify.cases.contract import ContractError, Kind
from gdn_verify.e2e import engine, environment, plugin, seam
from gdn_verify.e2e.account import Account, Seat, Turn, turn_of
from gdn_verify.e2e.cores import CoreUnavailableError, core_of
from gdn_verify.e2e.handed import rows_of, tables_of
from gdn_verify.e2e.seam import Call
from gdn_verify.e2e.variant import STOCK, Variant, variant
from gdn_verify.hosts import HOSTS
from gdn_verify.paths import UnknownPathError

CPU = HOSTS["cpu"]


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def metadata(**changed: Any) -> SimpleNamespace:
    """vLLM's of a batch without drafts: two decode steps, a prompt that goes on and one that begins."""
    made = {
        "spec_sequence_masks_cpu": None, "num_decodes": 2, "num_prefills": 2,
        "non_spec_query_start_loc": ints(0, 1, 2, 7, 10), "non_spec_state_indices_tensor": ints(4, 9, 2, 7),
        "has_initial_state": torch.tensor([True, True, True, False]), "spec_token_indx": None,
    }  # fmt: skip
    return SimpleNamespace(**{**made, **changed})


def drafted(**changed: Any) -> SimpleNamespace:
    """vLLM's of a batch with drafts: a prompt between two drafts of a table of three."""
    made = {
        "spec_sequence_masks_cpu": torch.tensor([True, False, True]), "num_decodes": 0, "num_prefills": 1,
        "non_spec_query_start_loc": ints(0, 4), "non_spec_state_indices_tensor": ints(8),
        "has_initial_state": torch.tensor([False]), "spec_query_start_loc": ints(0, 3, 5),
        "spec_state_indices_tensor": torch.tensor([[1, 2, 3], [5, 6, 7]]), "num_accepted_tokens": ints(2, 1),
        "spec_token_indx": ints(0, 1, 2, 7, 8),
    }  # fmt: skip
    return SimpleNamespace(**{**made, **changed})


def test_rows_are_those_of_the_metadata() -> None:
    """Steps, prompts that go on, and prompts that begin."""
    wanted = (Row(1, (4,)), Row(1, (9,)), Row(5, (2,)), Row(3, (7,), fresh=True))
    assert rows_of(metadata(), 1) == wanted
    steps = metadata(num_prefills=0, has_initial_state=None)
    assert rows_of(steps, 1) == wanted[:2]


def test_drafts_and_others_are_put_back_in_their_order() -> None:
    """vLLM's tables have them apart."""
    wanted = (Row(3, (1, 2, 3), accepted=2), Row(4, (8,), fresh=True), Row(2, (5, 6, 7), accepted=1))
    assert rows_of(drafted(), 3) == wanted
    tables = tables_of(wanted, 3)
    assert tables["query_start_loc"].tolist() == [0, 3, 7, 9]
    assert tables["state_indices"].tolist() == [[1, 2, 3], [8, -1, -1], [5, 6, 7]]
    assert tables["spec_rows"].tolist() == [True, False, True]


def test_tokens_sorted_otherwise_than_they_lie_are_refused() -> None:
    """A launch could not be told from them."""
    with pytest.raises(ContractError, match="spec_token_indx"):
        rows_of(drafted(spec_token_indx=ints(1, 0, 2, 7, 8)), 3)


def runner() -> SimpleNamespace:
    """A model runner before a turn: one request in the middle of its prompt, one that decodes."""
    ids = torch.arange(40).reshape(2, 20).numpy()
    batch = SimpleNamespace(
        req_ids=["p", "d"], num_computed_tokens_cpu=[4, 12], num_prompt_tokens=[9, 10], token_ids_cpu=ids
    )
    return SimpleNamespace(input_batch=batch, speculative_config=None)


def scheduled() -> SimpleNamespace:
    return SimpleNamespace(
        scheduled_new_reqs=[], scheduled_cached_reqs=SimpleNamespace(resumed_req_ids={"d"}),
        num_scheduled_tokens={"p": 3, "d": 1}, scheduled_spec_decode_tokens={},
    )  # fmt: skip


def test_a_turn_is_the_scheduler_s() -> None:
    """Who is in it, from where to where, and what happened."""
    turn = turn_of(runner(), scheduled())
    assert [(s.request, s.start, s.length, s.tokens[-1], s.resumed) for s in turn.seats] == [
        ("p", 4, 3, 6, False),
        ("d", 12, 1, 32, True),
    ]
    assert turn.kind is Kind.MIXED
    account = Account()
    account.enter(turn)
    seen = {name: count for name, count in account.events.items() if count}
    assert seen == {"turns": 1, "split prompts": 1, "mixed batches": 1, "preemptions": 1}


def test_a_draft_reads_what_was_accepted_before() -> None:
    """And knows the tokens behind each of its states."""
    seat = Seat("r", 10, 3, tuple(range(13)), 8, drafts=2, accepted=2)
    assert seat.row == Row(3, (0, 1, 2), accepted=2)
    assert seat.prefix(1) == tuple(range(12))
    assert Turn((seat,)).kind is Kind.SPEC


def test_counts_tell_that_the_core_ran_in_every_layer_and_nothing_else_did() -> None:
    """A layer too few is told, and one call of the engine's own core."""
    engine = ToyEngine()
    engine.generate([[3, 4], [5] * 20], 3, core_of(Variant("oracle"), CPU))
    seam = engine.seam
    assert not list(seam.shortcomings(1))
    assert sum(seam.ran[LAYER].values()) == seam.account.events["turns"]
    assert any("of 2" in line for line in seam.shortcomings(2))
    seam.stock = 1
    assert any("the engine's own core ran 1 times" in line for line in seam.shortcomings(1))


def test_a_layer_that_was_left_out_once_is_missed() -> None:
    """By one launch of one kind."""
    engine = ToyEngine()
    engine.generate([[3, 4]], 3, core_of(Variant("oracle"), CPU))
    engine.seam.ran[LAYER][Kind.DECODE] -= 1
    assert any(LAYER in line for line in engine.seam.shortcomings(1))


def test_a_core_for_one_kind_leaves_the_others_to_the_engine() -> None:
    """As many as the scheduler asked for."""
    engine, right, owned = ToyEngine(), core_of(Variant("oracle"), CPU), 0

    def own(call: Call) -> None:
        nonlocal owned
        owned += 1
        right(call)

    engine.own = own
    wanted = variant("oracle@decode")
    engine.generate([[3, 4], [5] * 20], 3, core_of(wanted, CPU))
    kinds = engine.seam.account.kinds
    assert owned == sum(kinds.values()) - kinds[Kind.DECODE] > 0
    engine.seam.stock = owned
    assert not list(engine.seam.shortcomings(1, wanted.leaves))


def test_an_engine_that_did_nothing_shows_nothing() -> None:
    """No turn is a shortcoming."""
    assert any("no turn" in line for line in ToyEngine().seam.shortcomings(1))


def test_words_name_variants() -> None:
    """Core, fault and kind; each that is unknown is told."""
    assert variant("dispatch-o!dropped_decay") == Variant("dispatch-o", "dropped_decay")
    assert str(variant("stock")) == STOCK
    assert str(variant("dispatch-o!dropped_decay@decode")) == "dispatch-o!dropped_decay@decode"
    for word, why in (("nobody", "nobody"), ("fla-chunk", "a core in an engine"), ("oracle!nothing", "no fault"),
                      ("oracle@noon", "no kind"),
                      ("stock!dropped_decay", "not in the engine's own")):  # fmt: skip
        with pytest.raises(UnknownPathError, match=why):
            variant(word)


def test_a_path_of_another_host_does_not_run_here() -> None:
    """Operators of the CPU do not run in the interpreter."""
    from gdn_verify.hosts import INTERPRETER

    with pytest.raises(CoreUnavailableError, match="runs on cpu"):
        core_of(Variant("vllm-cpu-core"), INTERPRETER)


def test_a_plugin_that_vllm_has_not_loaded_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not installed, broken, or left out: each with its reason."""
    monkeypatch.setattr(seam, "_KEPT", [])
    monkeypatch.setenv(plugin.ASKED, "cpu")
    monkeypatch.setattr(engine, "entry_points", lambda group: [])
    with pytest.raises(RuntimeError, match="install gdn-verify itself there"):
        engine._require_plugin()
    ours = SimpleNamespace(name=environment.OURS)
    monkeypatch.setattr(engine, "entry_points", lambda group: [ours])
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError):  # what vLLM has only logged
        engine._require_plugin()
    monkeypatch.setattr(engine, "put_in", lambda way: None)
    with pytest.raises(RuntimeError, match="did not load its plugin"):
        engine._require_plugin()


def test_the_plugin_does_nothing_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked, it raises where it cannot be put in."""
    monkeypatch.delenv(plugin.ASKED, raising=False)
    plugin.register()
    monkeypatch.setenv(plugin.ASKED, "1")
    monkeypatch.setattr(seam, "_KEPT", [])
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError):
        plugin.register()
