"""The circuit lab's own parts: settings, chosen heads, scores, the board, the search, the code."""

import contextlib
import io

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from transformers import GPT2Config, GPT2LMHeadModel

from app.circuit_lab import board, chosen, edges, snippets
from app.circuit_lab.checks import run_checks
from app.circuit_lab.prepared import Key, prepare, shipped_circuit
from app.circuit_lab.search_view import search, searched_key
from app.circuit_lab.settings import BOARD, GRAPH, Settings
from app.jobs import CancelledError, Job
from app.models import load_model
from lens_core import HookedModel
from lens_core.circuits import (
    Circuit,
    CircuitError,
    Knockouts,
    faithfulness,
    ioi_dataset,
    ioi_knockouts,
)
from tests.app.page import assert_unbroken, settled

EVIL = "</script><img src=x onerror=alert(1)>"
QUICK = {"n_prompts": 8}
FEW = "L6H2 L6H4"


@pytest.fixture(scope="module", autouse=True)
def few_references():
    """Stand-ins from four sentences a template: their number changes no code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.circuit_lab.prepared.N_REFERENCE", 4)
        patch.setattr("app.circuit_lab.snippets.N_REFERENCE", 4)
        yield


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-world")


@pytest.fixture(scope="module")
def ready(model, few_references):
    return prepare(model, Key.of(Settings(**QUICK)))


def column():
    from app.circuit_lab.lab import circuit_column

    circuit_column()


def opened(**params):
    """The lab's column, run until all is computed."""
    at = AppTest.from_function(column, default_timeout=120)
    at.query_params.update({name: str(value) for name, value in {**QUICK, **params}.items()})
    return settled(at.run())


def said(at):
    return " ".join(e.value for e in [*at.markdown, *at.caption])


def test_heads_travel_as_text(model):
    """Forbids an address that opens another circuit than the one that was shared."""
    nodes = chosen.nodes_of(model, "6.2, L7H1 mlp3", all_mlps=False)
    assert nodes == ((3, None), (6, 2), (7, 1))
    assert chosen.nodes_of(model, "L6H2 MLP3", all_mlps=True) == ((6, 2),)
    for wrong in ("L9H0", "L0H8", EVIL, "attn3"):
        with pytest.raises(CircuitError):
            chosen.nodes_of(model, wrong, all_mlps=True)


def test_scores_are_the_library_s(model, ready):
    """Forbids other prompts, another ablation or metric on the page than those that it names."""
    key = Key.of(Settings(**QUICK, ablation="zero", metric="log odds", order="BABA", seed=3))
    mine = prepare(model, key)
    dataset = ioi_dataset(model, 8, orders=("BABA",), n_reference=4, seed=3)
    knockouts = Knockouts(model, dataset, ablation="zero", measure="log odds", seed=3)
    circuit = mine.circuit([(6, 2), (5, 0)], "x")
    (live,) = faithfulness(knockouts, [circuit])
    (score,) = mine.scores([circuit])
    assert float(score.circuit.value) == pytest.approx(float(live.circuit.value), abs=1e-4)
    assert circuit.role_of((6, 2)) == "suppressor of the actor"
    assert float(ready.whole.ratio.value) == pytest.approx(1)


def test_what_was_scored_is_not_computed_again(ready, monkeypatch):
    """Forbids a board that runs every circuit anew at each click, and one that mixes them up."""
    circuit = Circuit.of("a", [(6, 2)])
    (first,) = ready.scores([circuit])
    monkeypatch.setattr("app.circuit_lab.prepared.faithfulness", None)
    again, whole = ready.scores([Circuit.of("b", {"x": [(6, 2)]}), ready.knockouts.whole])
    assert again is first
    assert whole is ready.whole
    at_end = Circuit("c", {"x": ((6, 2),)}, positions={"x": ("end",)})
    assert at_end.kept != circuit.kept


def test_a_published_circuit_is_offered_to_its_own_model_only(model):
    """Forbids GPT-2's heads on a model that has none of them."""
    shipped = shipped_circuit(model)
    assert shipped is not None
    assert shipped.model == "tiny-world"
    assert shipped_circuit(load_model("glass-copy")) is None


def test_the_published_circuit_runs_where_its_weights_would(model):
    """Forbids a published circuit that cannot be loaded, scored or told apart by its positions."""
    config = GPT2Config(
        n_layer=12, n_head=12, n_embd=24, n_positions=64, vocab_size=model.cfg.d_vocab,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    named = "openai-community/gpt2"
    stand_in = HookedModel.from_hf(GPT2LMHeadModel(config).eval(), model.tokenizer, name=named)
    shipped = shipped_circuit(stand_in)
    assert shipped is not None
    assert (shipped.name, shipped.size) == ("Wang et al. 2022", 26)
    knockouts = ioi_knockouts(stand_in, 8, n_reference=4)
    anywhere = Circuit.of("anywhere", shipped.nodes)
    found = knockouts.logit_differences([shipped, anywhere]).mean(axis=1)
    assert np.isfinite(found).all()
    assert found[0] != found[1]


def test_checks_count_their_steps_and_can_be_cancelled(ready):
    """Forbids work that shows no progress, or that goes on after *Cancel*."""
    circuit = ready.circuit([(6, 2), (6, 4)], "x")
    job = Job(lambda job: None)
    found = run_checks(ready, circuit, job, thorough=False)
    assert 0 < job.done <= job.total
    assert set(found.minimal.nodes) == set(circuit.nodes)
    assert len(found.random) == 4
    assert found.asked[-1] == circuit.kept
    job.cancel()
    with pytest.raises(CancelledError):
        run_checks(ready, circuit, job, thorough=True)


def test_the_smallest_faithful_circuit_leads_and_controls_have_no_place(ready):
    """Forbids a board led by the whole model, by no heads, or by ballast."""
    at = AppTest.from_function(lambda: None).run()  # a session to keep the board in
    assert not at.exception
    whole = ready.circuit(ready.knockouts.whole.nodes, "everything")
    lone = ready.circuit([(6, 2)], "lone")
    scored = ready.scores([whole, lone])
    rows = [board.Row(None, board.YOURS, c, s) for c, s in zip([whole, lone], scored, strict=True)]
    off = abs(float(scored[1].ratio.value) - 1)
    best = min(rows, key=board._order)
    assert best.circuit is (lone if off <= board.FAITHFUL else whole)
    names = [circuit.name for circuit in board.controls(ready, lone)]
    assert names == ["the whole model", "no heads", "1 random heads, the best of 4"]


def test_the_search_sees_other_prompts_than_the_judge_and_ends_when_told(ready):
    """Forbids an opponent that is judged on what it was trained on, and a *Cancel* in vain."""
    assert searched_key(ready.key).seed != ready.key.seed
    job = Job(lambda job: None)
    job.cancel()
    with pytest.raises(CancelledError):
        search(ready, Settings(**QUICK), job)
    assert (job.done, job.total) == (1, 64)


def test_edges_are_those_between_kept_nodes(model, ready):
    """Forbids wires to heads that are not drawn, backwards, or with the sign turned round."""
    found = edges.measured_edges(model, key=ready.key)
    circuit = ready.circuit([(5, 0), (6, 2), (6, 4), (7, 1)], "x")
    drawn = edges.edges_within(model, found, circuit)
    nodes = {None, *circuit.nodes}
    assert drawn
    assert all({edge.sender, edge.receiver} <= nodes for edge in drawn)
    assert all(e.sender[0] < e.receiver[0] for e in drawn if e.sender and e.receiver)
    (last,) = [e for e in drawn if e.sender == (6, 2) and e.receiver is None]
    assert last.effect > 0


def test_the_code_gives_the_page_s_numbers(model, ready, monkeypatch):
    """Forbids a script that is not what the page computed."""
    circuit = ready.circuit([(6, 2), (6, 4), (5, 0)], "your circuit")
    code = snippets.circuit_code(ready, circuit)
    assert len(code.splitlines()) <= snippets.MOST_LINES
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: model)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # the page's own text
    (score,) = ready.scores([circuit])
    assert float(names["found"][0].ratio.value) == pytest.approx(float(score.ratio.value), abs=1e-4)
    shown = run_checks(ready, circuit, Job(lambda job: None), thorough=False).minimal
    assert np.allclose(sorted(names["least"]["change"]), sorted(shown.change), atol=1e-4)
    compile(snippets.circuit_code(ready, ready.circuit([], "x")), "page", "exec")


def test_the_lab_invites_and_a_start_is_one_click_away():
    """Forbids an empty page without a way on."""
    at = opened()
    assert not at.exception
    assert not at.error
    assert "No head is kept yet" in said(at)
    at.button(key="circuit_start_0").click()
    at = settled(at.run())
    assert at.text_input(key="circuit").value == "L6H2"
    for title in ("Faithfulness", "Completeness", "Minimality"):
        assert f"##### {title}" in said(at)


def test_a_circuit_goes_to_the_board():
    """Forbids a leaderboard that forgets, or that takes the same circuit twice."""
    at = opened(circuit=FEW)
    at.button(key="circuit_add").click()
    at = settled(at.run())
    at.button(key="circuit_add").click()
    at = settled(at.run())
    entries = at.session_state["circuit_board"]
    assert [(e.model, e.kind, e.circuit.nodes) for e in entries] == [
        ("tiny-world", "yours", ((6, 2), (6, 4)))
    ]


def test_a_model_without_the_task_is_told_so():
    """Forbids a traceback, or an empty page, for models that know no names."""
    at = AppTest.from_function(column, default_timeout=120)
    at.session_state["model"] = "glass-induction"
    at.run()
    assert not at.exception
    assert any("tiny-world" in element.value for element in at.info)


def test_the_page_opens_with_its_lesson(open_page):
    """Forbids a lesson and a lab that do not fit together."""
    at = open_page("circuits", n_prompts="8", circuit=FEW)
    assert not at.exception
    assert not at.error
    assert at.text_input(key="circuit").value == FEW


@pytest.mark.parametrize(
    "settings",
    [{"circuit": EVIL}, {"circuit": "L9H9"}, {"view": GRAPH}, {"view": GRAPH, "circuit": FEW},
     {"view": BOARD, "circuit": FEW}, {"n_prompts": "-3"}, {"n_prompts": "x"}, {"seed": "99999"},
     {"metric": "logit_difference"}, {"ablation": EVIL}, {"all_mlps": "false", "circuit": "mlp0"},
     {"distractor": "third name", "metric": "log odds"}, {"order": "ABB", "cells": "x"}],
    ids=lambda given: str(given)[:60],
)  # fmt: skip
def test_no_address_breaks_it(settings):
    """Forbids a traceback because of a mistyped or hostile address."""
    assert_unbroken(opened(**settings))
