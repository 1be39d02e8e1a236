"""The patching lab's own parts: settings, pairs, the code of each view, the page."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
import streamlit as st

from app.attention_cache import ask
from app.models import load_model
from app.patching_lab import tables
from app.patching_lab.asked import scene_of
from app.patching_lab.attribution_view import estimate_of
from app.patching_lab.lab import _VIEWS
from app.patching_lab.many_view import pairs_of
from app.patching_lab.measured import heads_job, how, one_patch, places_job
from app.patching_lab.pairs import PAIR_PRESETS, PairKey
from app.patching_lab.settings import (
    ATTRIBUTION,
    FAMILIES,
    HEADS,
    MANY,
    OWN_PAIRS,
    PLACES,
    VIEWS,
    Settings,
)
from app.patching_lab.snippets import MOST_LINES, patching_code
from lens_core.interventions import patch
from lens_core.patching import AlignmentError
from tests.app.page import maps, settled

CLEAN = "The Eiffel Tower is in the city of"
CORRUPTED = "The Brandenburg Gate is in the city of"
EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-world")


def scene(model, **settings):
    chosen = Settings(**{"prompt": CLEAN, "corrupted": CORRUPTED, **settings})
    return scene_of(model, chosen)


def found(job):
    assert job.finished.wait(120)
    assert job.error is None, job.error
    return job.result.result


# Settings and what is asked


def test_settings_come_from_texts():
    """Forbids a lesson's settings that differ from the same ones in the URL."""
    texts = {"layer": "4", "at": "-1", "direction": "noise", "lens": "logit", "bos": "false"}
    assert Settings.of(texts) == Settings(layer=4, at=-1, direction="noise", bos=False)
    with pytest.raises(ValueError, match="site is one of"):
        Settings.of({"site": "x"})
    assert set(_VIEWS) == set(VIEWS)


def test_the_answers_are_what_the_runs_say_until_they_are_named(model):
    """Forbids a metric about other words than the page names, and a foil that is the answer."""
    here = scene(model)
    assert (here.answer_text, here.foil_text) == (" Paris", " Berlin")
    named = scene(model, target="Rome", foil="London")
    assert (named.answer_text, named.foil_text) == (" Rome", " London")
    same = scene(model, target="Rome", foil="Rome")
    assert same.foil_text == " Berlin"
    assert any("same token" in note for note in same.notes)
    odd = scene(model, target="zzzqqqxxx")
    assert odd.answer_text == " Paris"
    assert odd.notes


def test_the_chosen_place_is_the_first_that_differs(model):
    """Forbids a page that opens on a cell where nothing can happen, and a place outside."""
    assert scene(model).at == 2
    assert scene(model, at=-1).at == 8
    assert scene(model, at=99).at == 8


def test_a_marked_span_may_be_longer(model):
    """Forbids a strip whose columns do not answer to each other."""
    here = scene(
        model,
        prompt="The [Eiffel Tower] is in the city of",
        corrupted="The [Colosseum] is in the city of",
    )
    assert here.aligned.columns[2] == (2, None)
    assert here.aligned.columns[3:5] == ((3, 2), (4, 3))
    assert here.tokens[here.at] == " Colosseum"


def test_prompts_of_other_lengths_are_refused_with_advice(model):
    """Forbids a map of positions that do not answer to each other."""
    with pytest.raises(AlignmentError, match="brackets"):
        scene(model, corrupted="The Colosseum is in the city of")
    assert scene(model, corrupted="The Colosseum is in the city of", align="pad").tokens


# Numbers


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_map_and_the_chosen_patch_are_runs_of_the_model(model, direction):
    """Forbids a cell, or tokens beside it, of another patch than the page names."""
    here = scene(model, direction=direction, layer=7, at=8)
    runs = [CORRUPTED, CLEAN] if direction == "denoise" else [CLEAN, CORRUPTED]
    _, cache = model.run_with_cache(runs[1])
    logits = model.run(runs[0], [patch("resid_pre", 7, cache, positions=[8])])[0, -1]
    difference = float(logits[here.key.answer] - logits[here.key.foil])
    assert found(places_job(here)).values[7, 8, 0] == pytest.approx(difference, abs=1e-3)
    beside = ask(
        model, one_patch, key=here.key, site="resid_pre", layer=7, position=8, head=None,
        **how(here),
    ).result  # fmt: skip
    assert beside.patched.ids[0] == int(logits.argmax())
    assert beside.patched.answer_logit == pytest.approx(float(logits[here.key.answer]), abs=1e-3)
    assert beside.clean.texts[0] == " Paris"
    assert beside.corrupted.texts[0] == " Berlin"


@pytest.mark.parametrize(
    "settings",
    [
        {"site": "mlp_out", "metric": "probability"},
        {"view": HEADS, "part": "v", "direction": "noise"},
        {"view": HEADS, "over": "the chosen position", "at": 8},
        {"patch_with": "mean", "direction": "noise"},
        {"patch_with": "noise", "direction": "noise", "seed": 3},
        {"view": ATTRIBUTION, "site": "attn_out", "gradient": "integrated"},
        {"corrupted": "The Colosseum is in the city of", "align": "pad"},
    ],
    ids=str,
)
def test_the_code_gives_the_page_s_numbers(model, settings, monkeypatch):
    """Forbids a script that is not what the page computed, and one too long to read."""
    chosen = Settings(**{"prompt": CLEAN, "corrupted": CORRUPTED, **settings})
    here = scene_of(model, chosen)
    code = patching_code(here)
    assert len(code.splitlines()) <= MOST_LINES
    assert max(len(line) for line in code.splitlines()) < 200
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: model)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # the page's own text, with this test's prompts in it
    frame = tables.table(here)
    made = names["found"].to_frame()
    theirs = "estimated" if chosen.view == ATTRIBUTION else "value"
    assert np.allclose(made["value"], frame[theirs], atol=1e-3, equal_nan=True)


def test_a_prompt_is_never_code(model):
    """Forbids a script that runs what a visitor typed."""
    evil = "x'''\nimport os\nos.system('echo')  #"
    code = patching_code(scene(model, prompt=evil, corrupted=evil.replace("x", "y")))
    assert "\nimport os" not in code
    compile(code, "page", "exec")


def test_the_estimate_is_of_the_same_map(model):
    """Forbids a scatter of two different maps."""
    here = scene(model, view=ATTRIBUTION)
    guess, true = estimate_of(here).result, found(places_job(here))
    assert guess.values.shape == true.values.shape
    assert guess.clean == pytest.approx(true.clean, abs=1e-3)


def test_heads_are_patched_everywhere_or_at_one_place(model):
    """Forbids a map of heads at another place than it says."""
    everywhere = found(heads_job(scene(model, view=HEADS)))
    at_last = found(heads_job(scene(model, view=HEADS, over="the chosen position", at=8)))
    assert everywhere.mean.shape == (8, 8)
    assert at_last.labels["position"] == (8,)


# Many pairs


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != OWN_PAIRS])
def test_families_are_pairs_that_the_model_answers(model, name):
    """Forbids a family whose answers are not what the sentences say."""
    keys = pairs_of(model, Settings(family=name, n_pairs=12)).keys
    assert len(keys) > 8
    right = 0
    for key in keys:
        pair = key.pair(model)
        assert len(pair.differing) == 1
        best = [int(model.run(row[None])[0, -1].argmax()) for row in (pair.clean, pair.corrupted)]
        right += best == [key.answer, key.foil]
    assert right >= 0.8 * len(keys)


# The page


def test_the_page_opens_with_its_first_pair(open_page):
    """Forbids a page that does not open, or opens on nothing."""
    at = settled(open_page("patching"))
    assert not at.exception
    assert not at.error
    assert at.text_input(key="prompt").value == PAIR_PRESETS[0].prompt
    assert at.text_input(key="corrupted").value == PAIR_PRESETS[0].corrupted
    strip, places = maps(at)
    assert strip["rows"] == ["clean", "corrupted"]
    assert places["rows"] == [f"L{n}" for n in range(8)]


def test_the_page_of_estimates_opens_with_them(open_page):
    """Forbids a page of this lab that opens with another page's view."""
    at = settled(open_page("attribution_patching"))
    assert not at.exception
    assert not at.error
    assert at.session_state["view"] == ATTRIBUTION
    assert "estimated" in maps(at)[1]["title"]


@pytest.mark.parametrize(
    "settings",
    [
        {"view": HEADS, "part": "pattern"},
        {"view": HEADS, "over": "the chosen position", "at": "8"},
        {"view": ATTRIBUTION},
        {"view": ATTRIBUTION, "metric": "rank"},
        {"view": PLACES, "scale": "raw", "metric": "kl"},
        {"view": PLACES, "patch_with": "zero", "site": "resid_mid"},
    ],
    ids=str,
)
def test_every_view_draws(open_page, settings):
    """Forbids a view that fails where nobody looks."""
    at = settled(open_page("patching", **settings))
    assert not at.exception
    assert not [e for e in at.error if "Something went wrong" in e.value]
    if settings.get("metric") != "rank":  # which has no gradient, and says so
        assert not at.error
        assert len(maps(at)) == 2


@pytest.mark.parametrize(
    ("view", "patch_with"),
    [(PLACES, "zero"), (HEADS, "resample"), (PLACES, "mean")],
)
def test_an_ablation_has_the_axes_and_colours_of_a_patch(open_page, model, view, patch_with):
    """Forbids an ablation that looks stronger than a patch of the same effect, or elsewhere."""
    settings = {"view": view, "direction": "noise", "patch_with": patch_with}
    at = settled(open_page("patching", prompt=CLEAN, corrupted=CORRUPTED, **settings))
    drawn = maps(at)[1]
    here = scene(model, **settings)
    job = places_job if view == PLACES else heads_job
    lost = 1 - found(job(here)).normalised_mean
    shades = [[cell["shade"] for cell in row] for row in drawn["cells"]]
    assert np.allclose(shades, np.clip(lost, -1, 1), atol=2e-3)
    patched = found(job(scene(model, **{**settings, "patch_with": "other run"})))
    assert np.shape(shades) == patched.normalised_mean.shape


def test_a_shared_link_restores_the_chosen_patch(open_page):
    """Forbids a setting that is lost on the way to another browser."""
    link = {"layer": "7", "at": "8", "direction": "noise", "site": "attn_out"}
    at = settled(open_page("patching", **link))
    _, places = maps(at)
    assert (places["row"], places["place"]) == (7, 8)
    assert places["title"].startswith("attn_out")
    assert at.number_input(key="at").value == 8


@pytest.mark.parametrize(
    "nonsense",
    [{"view": "x"}, {"layer": "embed"}, {"at": "999"}, {"at": "-2"}, {"corrupted": ""},
     {"prompt": EVIL}, {"prompt": EVIL, "corrupted": EVIL}, {"foil": EVIL},
     {"prompt": "a " * 400, "corrupted": "b " * 400}, {"metric": "x", "site": "y"},
     {"view": MANY, "n_pairs": "9999"}],
    ids=lambda given: str(given)[:60],
)  # fmt: skip
def test_nonsense_in_the_address_breaks_nothing(open_page, nonsense):
    """Forbids a traceback because of a mistyped or hostile address."""
    at = settled(open_page("patching", **nonsense))
    assert not at.exception
    assert not [e for e in at.error if "Something went wrong" in e.value]
    for element in [*at.markdown, *at.caption, *at.error, *at.warning, *at.info]:
        assert "<img" not in element.value.replace("\\<", "")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompt": CLEAN, "corrupted": "The Colosseum is in the city of"}, "brackets"),
        ({"prompt": "one " * 150, "corrupted": "two " * 150}, "at most 128"),
        ({"prompt": "a " * 400, "corrupted": "b " * 400}, "shorten"),
        ({"target": "zzzqqqxxx"}, "Shown instead"),
    ],
    ids=["unequal length", "150 tokens", "400 tokens", "target of several tokens"],
)
def test_what_cannot_be_patched_is_said_in_a_sentence(open_page, settings, words):
    """Forbids a traceback, or a map of something else without a word about it."""
    at = settled(open_page("patching", **settings))
    assert not at.exception
    said = [element.value for element in (*at.error, *at.caption)]
    assert any(words in text for text in said), said
    assert not [text for text in said if "Something went wrong" in text]


def test_two_visitors_have_their_own_maps(open_page):
    """Forbids one visitor's pair, or its numbers, on the other's page."""
    pairs = [
        {"prompt": CLEAN, "corrupted": CORRUPTED},
        {"prompt": "In Japan, the capital is", "corrupted": "In Italy, the capital is"},
    ]
    first, second = (open_page("patching", **pair) for pair in pairs)
    seen = [maps(settled(at))[1] for at in (first, second)]
    alone = [maps(settled(open_page("patching", **pair)))[1] for pair in pairs]
    assert [grid["columns"] for grid in seen] == [grid["columns"] for grid in alone]
    assert [grid["cells"] for grid in seen] == [grid["cells"] for grid in alone]
    assert seen[0]["columns"] != seen[1]["columns"]


def test_a_prompt_of_another_lab_finds_its_partner(open_page):
    """Forbids an error on the way from a lab that has one prompt only."""
    known = PAIR_PRESETS[2]
    at = settled(open_page("patching", prompt=known.prompt))
    assert at.text_input(key="corrupted").value == known.corrupted
    lone = open_page("patching", prompt="Paris is the capital of")
    assert not lone.error
    assert any("two prompts" in element.value for element in lone.markdown)


def test_a_glass_model_opens_too(open_page):
    """Forbids a lab that works on the default model alone."""
    st.cache_resource.clear()
    pair = {"prompt": "fox owl bee cat fox owl", "corrupted": "fox owl cat bee fox owl"}
    at = settled(open_page("patching", model="glass-induction", **pair))
    assert not at.exception
    assert not at.error


def test_results_are_kept_by_pair(model):
    """Forbids the numbers of one pair under another."""
    first = PairKey(CLEAN, CORRUPTED, 1, 2)
    assert first != replace(first, corrupted="The Big Ben is in the city of")
    assert hash(first) == hash(PairKey(CLEAN, CORRUPTED, 1, 2))
