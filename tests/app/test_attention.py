"""The attention lab's own parts: settings, what is asked, the code of each view, the page."""

import contextlib
import io
import json

import numpy as np
import pytest
import streamlit as st

from app.attention_cache import Block, ask
from app.attention_lab import (
    answer_view,
    block_view,
    repeat_view,
    scores_view,
    tables,
    weights_view,
)
from app.attention_lab.asked import scene_of
from app.attention_lab.grid_view import shown
from app.attention_lab.head_view import averaged
from app.attention_lab.parts import listed_parts, part_label
from app.attention_lab.settings import ANSWER, BLOCK, GRID, HEAD, SCORES, VIEWS, Settings
from app.attention_lab.snippets import MOST_LINES, attention_code
from app.components.circuitsvis import AttentionHeads, attention_heads_html
from app.lens_cache import tokens_of
from app.models import load_model
from app.presets import ATTENTION_PRESETS, ATTRIBUTION_PRESETS, INDUCTION_PRESETS
from lens_core.attention import query_key, read_attention
from lens_core.attribution import AblationError, direct_logit_attribution
from lens_core.model.errors import TokenError

PROMPT = "The Eiffel Tower is in the city of"
OTHERS = "The Brandenburg Gate is in the city of"
EVIL = "</script><img src=x onerror=alert(1)>"
PAGES = {"attention_heads": GRID, "induction": SCORES, "attribution": ANSWER}


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-world")


@pytest.fixture(scope="module")
def glass():
    return load_model("glass-induction")


def scene(model, **settings):
    chosen = Settings(**{"prompt": PROMPT, "layer": 6, "head": 4, **settings})
    return scene_of(model, chosen, tokens_of(model, chosen.prompt, chosen.bos))


def components(at):
    return [json.loads(element.proto.json) for element in at.get("bidi_component")]


# Settings and what is asked


def test_settings_come_from_texts():
    """Forbids a lesson's settings that differ from the same ones in the URL."""
    texts = {"layer": "4", "dest": "3", "mass": "0.9", "swap": "true", "lens": "logit"}
    assert Settings.of(texts) == Settings(layer=4, dest=3, mass=0.9, swap=True)
    with pytest.raises(ValueError, match="view is one of"):
        Settings.of({"view": "x"})
    assert set(VIEWS) == {GRID, HEAD, SCORES, ANSWER, BLOCK}


def test_the_edge_chooses_itself_until_it_is_chosen(model):
    """Forbids an edge that no head has, and a source that is not the strongest by itself."""
    free = scene(model)
    row = free.attention.pattern[6, 4, free.edge["dest"]]
    assert free.edge["dest"] == len(free.token_ids) - 1
    assert free.edge["src"] == int(row.argmax())
    odd = scene(model, layer=99, head=-3, dest=2, src=50)
    assert odd.edge == {"layer": 7, "head": 0, "dest": 2, "src": 2}


def test_a_target_and_a_foil_are_words(model):
    """Forbids an answer about another token than the one that was asked for, without a note."""
    plain = scene(model)
    assert plain.text(plain.target_id).strip() == "Paris"
    assert plain.foil_id not in (None, plain.target_id)
    asked = scene(model, target="Rome", foil="London")
    assert (asked.text(asked.target_id), asked.text(asked.foil_id)) == (" Rome", " London")
    assert scene(model, answer_as="logit").foil_id is None
    nonsense = scene(model, target="Zqxwvk", foil="Paris")
    assert len(nonsense.notes) == 2
    assert nonsense.foil_id != nonsense.target_id
    assert scene(model, target="next token", position=2).target_id == plain.token_ids[3]


def test_parts_are_named_as_lessons_name_them(model):
    """Forbids an ablation of another part than the one that was typed."""
    parts = listed_parts(model, "L4H7, 5.1; mlp3 attn2 L4H7")
    assert parts == ((4, 7), (5, 1), (3, "mlp"), (2, "attn"))
    assert [part_label(part) for part in parts] == ["L4H7", "L5H1", "MLP 3", "attention 2"]
    for wrong in ("L9H0", "mlp8", "head", "L4H8"):
        with pytest.raises(AblationError):
            listed_parts(model, wrong)


def test_results_are_kept_by_question(model):
    """Forbids computing twice what was asked twice, and one answer for two questions."""
    ids = tokens_of(model, PROMPT)
    first = ask(model, query_key, ids, layer=1, head=2, dest=3, src=1)
    assert ask(model, query_key, ids, layer=1, head=2, dest=3, src=1) is first
    assert ask(model, query_key, ids, layer=1, head=2, dest=3, src=2) is not first
    blocked = ask(model, read_attention, ids, interventions=(Block(1, 2),)).result
    assert (blocked.pattern[1, 2] == 0).all()


def test_the_mean_refuses_prompts_of_other_lengths(model):
    """Forbids a mean over tokens that do not stand in the same place."""
    with pytest.raises(TokenError, match="equally many"):
        averaged(scene(model, prompts="Paris is"))


# The code

VARIANTS = [
    {},
    {"shows": "value-weighted", "other_prompt": OTHERS},
    {"view": HEAD},
    {"view": HEAD, "shows": "scores", "bos": False},
    {"view": HEAD, "drawn": "neuron view", "dest": 5, "src": 2},
    {"view": HEAD, "drawn": "weights", "token": "Paris"},
    {"view": HEAD, "drawn": "weights"},
    {"view": HEAD, "drawn": "averaged", "prompts": OTHERS.replace("Brandenburg", "Eiffel")
     .replace("Gate", "Gate")},
    {"view": HEAD, "drawn": "CircuitsVis"},
    {"view": ANSWER},
    {"view": ANSWER, "parts": "heads", "target": "Paris", "foil": "Rome"},
    {"view": ANSWER, "parts": "sources", "position": 5},
    {"view": ANSWER, "parts": "neurons", "answer_as": "logit"},
    {"view": ANSWER, "parts": "accumulated"},
    {"view": BLOCK},
    {"view": BLOCK, "kind": "mean", "seed": 3},
    {"view": BLOCK, "kind": "resample"},
    {"view": BLOCK, "blocked": "other parts", "listed": "L6H4 mlp5"},
    {"view": BLOCK, "blocked": "edge", "dest": 8, "src": 2},
    {"view": BLOCK, "blocked": "column", "src": 2, "renormalise": True},
    {"view": BLOCK, "blocked": "row"},
    {"prompt": f'{EVIL} """ \' \\ {{x}}'},
]  # fmt: skip


def run(code, model, monkeypatch):
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: model)
    made: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "code", "exec"), made)
    return made


def on_page(here):
    settings = here.settings
    if settings.view == ANSWER:
        makers = {
            "sources": answer_view.sources,
            "neurons": answer_view.neurons,
            "accumulated": answer_view.along,
        }
        return makers.get(settings.parts, answer_view.direct_parts)(here)
    if settings.view == BLOCK:
        if settings.blocked in ("head", "other parts"):
            job = block_view.ablation_job(here, block_view.parts_of(here))
            assert job.finished.wait(60)
            assert job.error is None, job.error
            return job.result.result
        return block_view.edge_effect(here).result
    if settings.drawn == "weights":
        return weights_view.read_weights(here)[0]
    if settings.drawn == "neuron view":
        return ask(here.model, query_key, here.token_ids, **here.edge).result
    return averaged(here) if settings.drawn == "averaged" else shown(here)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_code_gives_the_page_s_numbers(model, settings, monkeypatch):
    """Forbids *Show the code* that is long, does not run, or computes something else."""
    here = scene(model, **settings)
    code = attention_code(here)
    assert len(code.splitlines()) <= MOST_LINES
    ours = run(code, model, monkeypatch)["found"].to_frame()
    shown_frame = on_page(here).to_frame()
    assert len(ours) == len(shown_frame) > 0
    for name in shown_frame.select_dtypes("number"):
        assert np.allclose(
            ours[name].to_numpy(float), shown_frame[name].to_numpy(float), atol=1e-4, equal_nan=True
        ), name
    assert len(tables.table(here)) > 0


@pytest.mark.parametrize(
    "measured", [{}, {"scored_on": "this prompt"}, {"measured": "composition"},
                 {"measured": "loss of a repeat"}]
)  # fmt: skip
def test_the_code_of_measurements_gives_the_page_s_numbers(glass, measured, monkeypatch):
    """Forbids a score, a composition or a curve in the code that is not the page's."""
    chosen = {"prompt": "fox owl bee cat fox owl", "layer": 1, "head": 1, "view": SCORES}
    here = scene(glass, **chosen, **measured)
    made = run(attention_code(here), glass, monkeypatch)["found"].to_frame()
    jobs = {"composition": scores_view.composition_job, "loss of a repeat": repeat_view.curve_job}
    job = jobs.get(here.settings.measured, scores_view.scores_job)(here)
    assert job.finished.wait(60)
    assert job.error is None, job.error
    frame = job.result.result.to_frame()
    for name in frame.select_dtypes("number"):
        assert np.allclose(made[name].to_numpy(float), frame[name].to_numpy(float), equal_nan=True)
    assert tables.table(here).equals(frame)


def test_the_parts_on_screen_sum_to_the_answer(model):
    """Forbids bars that do not add up, and a badge that says they do."""
    here = scene(model)
    direct = answer_view.direct_parts(here)
    assert direct.ok
    assert sum(direct.by_component.values()) == pytest.approx(direct.value, rel=1e-4)
    live = direct_logit_attribution(model, PROMPT, here.target_id, here.foil_id)
    assert direct.value == pytest.approx(live.value, abs=1e-5)


# CircuitsVis


def test_circuitsvis_gets_no_markup_and_nothing_too_large():
    """Forbids a token that is HTML in another's frame, and a frame that hangs."""
    page = attention_heads_html(AttentionHeads([EVIL, "b"], np.zeros((2, 2, 2)), ["L0H0", "L0H1"]))
    drawing = page.rpartition("<script>")[2]
    assert "<img" not in drawing
    assert "onerror" in drawing
    assert drawing.count("</script") == 1
    with pytest.raises(ValueError, match="At most"):
        attention_heads_html(AttentionHeads(["a"] * 65, np.zeros((1, 65, 65)), ["L0H0"]))
    with pytest.raises(ValueError, match="At most"):
        attention_heads_html(AttentionHeads(["a"], np.zeros((13, 1, 1)), ["x"] * 13))


# The page


@pytest.mark.parametrize("page", list(PAGES))
def test_each_page_opens_with_its_own_view(open_page, page):
    """Forbids a page of this lab that opens with another page's view, or does not open."""
    at = open_page(page)
    assert not at.exception
    assert not at.error
    assert at.session_state["view"] == PAGES[page]
    presets = {"attention_heads": ATTENTION_PRESETS, "induction": INDUCTION_PRESETS}
    first = presets.get(page, ATTRIBUTION_PRESETS)[0]
    assert at.text_input(key="prompt").value == first.prompt


def test_a_shared_link_restores_selection_and_options(open_page):
    """Forbids a setting that is lost on the way to another browser."""
    link = {
        "prompt": PROMPT, "view": HEAD, "layer": "6", "head": "4", "dest": "8", "src": "2",
        "target": "Rome", "foil": "London", "mass": "0.8", "show_bos": "False", "swap": "True",
        "lines": "True", "heads": "1 4",
    }  # fmt: skip
    at = open_page("attention_heads", **link)
    assert not at.exception
    assert not at.error
    [view] = [found for found in components(at) if "nextProb" in found]
    assert (view["layer"], view["head"]) == (6, 4)
    assert view["selected"] == {"layer": 6, "head": 4, "dest": 8, "src": 2}
    assert view["options"] == {
        "lines": True, "mass": 0.8, "swap": True, "bos": False, "heads": [1, 4]
    }  # fmt: skip
    assert at.selectbox(key="target").value == "Rome"


@pytest.mark.parametrize(
    "settings",
    [{"view": "head", "drawn": drawn} for drawn in ("neuron view", "weights", "averaged")]
    + [{"view": SCORES, "measured": "composition"}]
    + [{"view": ANSWER, "parts": p} for p in ("heads", "sources", "neurons", "accumulated")]
    + [{"view": BLOCK, "blocked": b} for b in ("edge", "column", "row", "other parts")]
    + [{"view": BLOCK, "kind": "mean"}],
    ids=str,
)
def test_every_view_draws(open_page, settings):
    """Forbids a view that fails where nobody looks."""
    at = open_page("attention_heads", prompt=PROMPT, layer="6", head="4", **settings)
    assert not at.exception
    assert not at.error


@pytest.mark.parametrize(
    "nonsense",
    [{"view": "x"}, {"layer": "embed"}, {"layer": "99"}, {"head": "-1"}, {"dest": "999"},
     {"src": "many"}, {"mass": "7"}, {"mass": "x"}, {"heads": "a <b>"}, {"sort": EVIL},
     {"target": EVIL}, {"view": BLOCK, "blocked": "other parts", "listed": EVIL},
     {"other_prompt": EVIL}, {"position": "-4"}, {"bos": "maybe"}],
    ids=str,
)  # fmt: skip
def test_nonsense_in_the_address_breaks_nothing(open_page, nonsense):
    """Forbids a traceback because of a mistyped or hostile address."""
    at = open_page("attention_heads", **nonsense)
    assert not at.exception
    assert not [e for e in at.error if "Something went wrong" in e.value]
    for element in [*at.markdown, *at.caption, *at.error, *at.warning, *at.info]:
        assert "<img" not in element.value.replace("\\<", "")


def test_a_new_prompt_lets_go_of_the_old_one_s_tokens(open_page):
    """Forbids an edge between tokens that the new prompt has not got."""
    at = open_page("attention_heads", prompt=PROMPT, dest="8", src="2")
    assert at.number_input(key="dest").value == 8
    at.text_input(key="prompt").set_value("Paris is").run()
    assert not at.error
    assert at.number_input(key="dest").value is None


def test_the_glass_models_open_too(open_page):
    """Forbids a lab that works on the default model alone."""
    st.cache_resource.clear()
    at = open_page("induction", model="glass-induction", prompt="fox owl bee cat fox owl")
    assert not at.exception
    assert not at.error
