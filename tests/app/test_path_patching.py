"""The view of wires and its page: numbers, planted wiring, the code, every state of the page."""

import contextlib
import io

import numpy as np
import pytest
import streamlit as st

from app.lesson import load_lesson
from app.models import load_model
from app.patching_lab import tables
from app.patching_lab.asked import scene_of
from app.patching_lab.settings import HEADS, HELD_STILL, WIRES, Settings
from app.patching_lab.snippets import MOST_LINES, patching_code
from app.patching_lab.wires import (
    control_reader,
    effects_of,
    patched_wire,
    read_by,
    sender_of,
    stray_share,
    wires_job,
)
from lens_core.glass.facts_truth import FACTS_TRUTH
from lens_core.glass.truth import INDUCTION_TRUTH
from lens_core.patching import path_patching
from tests.app.page import maps, settled

DRINK = {
    "prompt": "When Mary and John went to the store, John gave a drink to",
    "corrupted": "When Mary and John went to the store, Mary gave a drink to",
}
ANIMALS = {"prompt": "fox owl bee fox", "corrupted": "cat owl bee fox", "target": "owl"}
PEOPLE = {
    "prompt": "today ada lake lives in",
    "corrupted": "today ben wood lives in",
    "metric": "logit",
}
EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def models():
    return {name: load_model(name) for name in ("tiny-world", "glass-induction", "glass-facts")}


def scene(model, **settings):
    return scene_of(model, Settings(view=WIRES, **settings))


def found(here):
    job = wires_job(here)
    assert job.finished.wait(120)
    assert job.error is None, job.error
    return job.result.result


# Planted wiring


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_planted_wire_of_glass_induction_comes_out(models, direction):
    """Forbids a view that shows another wire than the one that was put there, or a second one."""
    circuit = INDUCTION_TRUTH.circuit
    layer, head = circuit["induction"]
    here = scene(
        models["glass-induction"],
        **ANIMALS, reads="k", layer=layer, head=head, direction=direction,
    )  # fmt: skip
    wires = found(here)
    moved = np.nan_to_num(wires.found.moved)
    planted = "{}.{}".format(*circuit["previous token"])
    i, j = wires.found.senders.index(planted), wires.found.receivers.index(read_by(here))
    assert wires.found.receivers[j] == "1.1.k"
    assert moved[i, j] == pytest.approx(1, abs=0.05)
    moved[i, j] = 0
    heads = [n for n, name in enumerate(wires.found.senders) if name != "embed"]
    assert np.abs(moved[heads]).max() < 0.05
    assert sender_of(here, wires.found) == planted
    # The controls: a reader drawn at random, and the same wire with an unrelated text on it.
    assert np.nanmax(np.abs(wires.control.moved)) < 0.05
    assert wires.control.receivers[0] != "1.1.k"
    if direction == "denoise":
        assert abs(stray_share(here, planted, wires.found)) < 0.05


def test_the_planted_wires_of_glass_facts_come_out(models):
    """Forbids a wire of the fact that the view misses, and one that it makes up."""
    planted = {(a, b) for a, b in FACTS_TRUTH.edges("city") if b != "2.0.q"}
    layer, head = FACTS_TRUTH.mover("city")
    seen = set()
    for reader in (
        {"reads": "logits"},
        {"reads": "v", "layer": layer, "head": head},
        {"reads": "mlp", "layer": FACTS_TRUTH.store},
        {"reads": "v", "layer": 0, "head": 3},
    ):
        here = scene(models["glass-facts"], **PEOPLE, **reader, direction="noise",
                     between=HELD_STILL)  # fmt: skip
        moved = found(here).found
        strong = np.argwhere(np.nan_to_num(moved.moved) > 0.5)
        seen |= {(moved.senders[i], moved.receivers[j]) for i, j in strong}
    assert seen == planted


def test_a_wire_s_effects_add_up_on_glass(models):
    """Forbids three numbers of which the page says that they add up, and that do not."""
    here = scene(models["glass-induction"], **ANIMALS, reads="k", layer=1, head=1)
    effects = effects_of(here, "0.2")
    assert effects.via == pytest.approx(effects.total, abs=0.02)
    assert (effects.direct, effects.rest) == pytest.approx((0, 0), abs=0.02)


# Numbers on the shipped model


def test_the_words_beside_a_wire_are_of_its_run(models):
    """Forbids next tokens of another patch than the map's chosen cell."""
    model = models["tiny-world"]
    for direction in ("denoise", "noise"):
        here = scene(model, **DRINK, sender="L6H2", direction=direction)
        wires, patched = found(here).found, patched_wire(here, "6.2")
        i = wires.senders.index("6.2")
        difference = patched.patched.answer_logit - patched.patched.foil_logit
        assert difference == pytest.approx(float(wires.mean[i, 0]), abs=1e-3)
        assert patched.clean.texts[0] == " Mary"
        assert patched.corrupted.texts[0] == " John"


def test_the_chosen_sender_is_kept_where_the_reader_can_hear_it(models):
    """Forbids a wire that runs backwards, and a link whose sender is lost."""
    model = models["tiny-world"]
    here = scene(model, **DRINK, reads="q", layer=7, head=1, sender="L6H2")
    assert sender_of(here, found(here).found) == "6.2"
    back = scene(model, **DRINK, reads="q", layer=3, head=1, sender="L6H2")
    assert sender_of(back, found(back).found) != "6.2"


def test_where_senders_are_patched_is_where_the_page_says(models):
    """Forbids a wire patched everywhere that is said to be patched at one token."""
    model = models["tiny-world"]
    here = scene(model, **DRINK, over="the chosen position", at=14)
    pair = here.key.pair(model)
    one = path_patching(model, pair, ["6.2"], positions=[14], direction="denoise")
    wires = found(here).found
    i = wires.senders.index("6.2")
    assert wires.values[i, 0] == pytest.approx(one.values[0, 0], abs=1e-4)


def test_the_control_is_another_reader(models):
    """Forbids a control that is the experiment itself."""
    for reader in ({"reads": "logits"}, {"reads": "mlp", "layer": 3}, {"reads": "q", "layer": 7}):
        here = scene(models["tiny-world"], **DRINK, **reader)
        assert control_reader(here) not in (None, read_by(here))
        assert control_reader(here) == control_reader(here)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reads": "k", "layer": 6, "head": 2, "direction": "noise", "metric": "probability"},
        {
            "reads": "mlp",
            "layer": 2,
            "over": "the chosen position",
            "at": 3,
            "sender": "embeddings",
        },
    ],
    ids=str,
)
def test_the_code_gives_the_page_s_numbers(models, settings, monkeypatch):
    """Forbids a script that is not what the page computed, and one too long to read."""
    here = scene(models["tiny-world"], **DRINK, **settings)
    code = patching_code(here)
    assert len(code.splitlines()) <= MOST_LINES
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: models[name])
    names, said = {}, io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, names)  # the page's own text, with this test's prompts in it
    frame = tables.table(here)
    made = names["found"].to_frame()
    assert list(made["sender"]) == list(frame["sender"])
    assert np.allclose(made["value"], frame["value"], atol=1e-3, equal_nan=True)
    assert "WireEffects(" in said.getvalue()
    share = 1 - frame["normalised"] if here.settings.direction == "noise" else frame["normalised"]
    assert np.allclose(share, frame["share_of_the_way"], equal_nan=True)


# The page


def test_the_page_opens_with_the_wires(open_page):
    """Forbids a page of this lab that opens with another page's view."""
    at = settled(open_page("path_patching"))
    assert not at.exception
    assert not at.error
    assert at.session_state["view"] == WIRES
    _, wires = maps(at)
    assert wires["title"].startswith("Wires into the logits")
    assert wires["columns"][-1] == "MLP"
    assert at.title[0].value == load_lesson("path-patching").title


@pytest.mark.parametrize(
    "settings",
    [
        {"reads": "q", "layer": "7", "head": "1"},
        {"reads": "mlp", "layer": "4", "between": HELD_STILL, "scale": "raw"},
        {"reads": "k", "layer": "0", "head": "0"},  # only the embeddings come before
        {"reads": "v", "layer": "3", "over": "the chosen position", "metric": "kl"},
        {"reads": "mlp", "layer": "0", "direction": "noise", "sender": "L0H3"},
    ],
    ids=str,
)
def test_every_reader_draws(open_page, settings):
    """Forbids a reader whose wires fail where nobody looks."""
    at = settled(open_page("path_patching", **DRINK, **settings))
    assert not at.exception
    assert not at.error
    drawn = 1 if settings["layer"] == "0" and settings["reads"] == "k" else 2
    assert len(maps(at)) == drawn
    said = " ".join(element.value for element in at.caption)
    assert "Control:" in said or settings.get("metric") == "kl"


@pytest.mark.parametrize(
    "nonsense",
    [{"reads": "x"}, {"sender": EVIL}, {"sender": "L99H99"}, {"layer": "99", "reads": "q"},
     {"between": "y", "over": "z"}, {"prompt": EVIL, "corrupted": EVIL}, {"corrupted": ""},
     {"corrupted": "The Colosseum is in the city of", "prompt": "A", "align": "pad"}],
    ids=lambda given: str(given)[:60],
)  # fmt: skip
def test_nonsense_in_the_address_breaks_nothing(open_page, nonsense):
    """Forbids a traceback because of a mistyped or hostile address."""
    at = settled(open_page("path_patching", **{**DRINK, **nonsense}))
    assert not at.exception
    assert not [e for e in at.error if "Something went wrong" in e.value]
    for element in [*at.markdown, *at.caption, *at.error, *at.warning, *at.info]:
        assert "<img" not in element.value.replace("\\<", "")


def test_a_head_of_the_heads_view_offers_its_wires(open_page):
    """Forbids a way from a head to what it hears that leads elsewhere."""
    at = settled(open_page("patching", **DRINK, view=HEADS, part="q", layer="7", head="1"))
    at.button(key="offer_wires").click()
    at = settled(at.run())
    assert not at.exception
    assert at.session_state["view"] == WIRES
    assert maps(at)[1]["title"].startswith("Wires into Q of L7H1")


def test_a_circuit_is_walked_backwards(open_page):
    """Forbids a button that shows the wires of another head than it names."""
    at = settled(open_page("path_patching", **DRINK, sender="L6H2"))
    assert "L6H2" in at.button(key="wires_follow").label
    at.button(key="wires_follow").click()
    at = settled(at.run())
    assert maps(at)[1]["title"].startswith("Wires into V of L6H2")
    assert at.selectbox(key="layer").value == "6"


def test_a_glass_model_opens_too(open_page):
    """Forbids a page that works on the default model alone."""
    st.cache_resource.clear()
    reader = {"reads": "k", "layer": "1", "head": "1"}
    at = settled(open_page("path_patching", model="glass-induction", **ANIMALS, **reader))
    assert not at.exception
    assert not at.error
    assert maps(at)[1]["cells"][0][2]["text"] == "1.00"
