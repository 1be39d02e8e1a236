"""The editing lab's own parts: settings, what is asked, the ledger of a visit, the column."""

import contextlib
import io
import json
import re
import threading
import zipfile
from dataclasses import replace

import pytest
import torch
from streamlit.testing.v1 import AppTest

from app.editing_lab.asked import (
    answer_now,
    compute,
    request_of,
    settings_of,
    start_layer,
)
from app.editing_lab.job import _work
from app.editing_lab.ledger import file_name, with_edits
from app.editing_lab.ledger_view import baked_zip
from app.editing_lab.settings import (
    FT_L,
    IN_CONTEXT,
    MEMIT,
    METHODS,
    NUMBERS,
    R_ROME,
    ROME,
    SCORES,
    VIEWS,
    Settings,
)
from app.editing_lab.snippets import MOST_LINES, editing_code
from app.jobs import CancelledError, Job
from app.models import load_model
from app.tracing_lab.facts import FIRST
from lens_core.editing import EditingError, Ledger
from tests.app.page import assert_unbroken

PROMPT, SUBJECT = FIRST
EVIL = "</script><img src=x onerror=alert(1)>"
FIRST_EDIT = Settings(prompt=PROMPT, subject=SUBJECT, new="Rome")


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-world")


@pytest.fixture(scope="module")
def edit(model):
    return compute(model, model, FIRST_EDIT, request_of(model, FIRST_EDIT))


def says(model, prompt, interventions=()):
    best = model.run(prompt, interventions, last_logits_only=True)[0, -1].argmax()
    return model.to_string([int(best)]).strip()


def column():
    from app.editing_lab.lab import editing_column

    editing_column()


def opened(**params):
    """The lab's column as that address opens it."""
    at = AppTest.from_function(column, default_timeout=120)
    at.query_params.update({name: str(value) for name, value in params.items()})
    return at.run()


def edited(at):
    """The same after *Edit* has been pressed and the edit is made."""
    at.button(key="editing_start").click().run()
    job = at.session_state.get("editing_job", None)
    if job is not None:
        assert job.finished.wait(120)
        at.run()
    return at


def said(at):
    return " ".join(e.value for e in [*at.markdown, *at.caption, *at.info, *at.warning, *at.error])


def test_settings_come_from_texts():
    """Forbids a lesson's settings that differ from the same ones in the URL."""
    texts = {"edit_layer": "3", "steps": "12", "kl_factor": "2", "covariance": "false"}
    assert Settings.of(texts) == Settings(edit_layer=3, steps=12, kl_factor=2.0, covariance=False)
    with pytest.raises(ValueError, match="method is one of"):
        Settings.of({"method": "x"})


def test_the_old_answer_is_what_the_model_says(model):
    """Forbids a record of the wrong fact, or of none where the world has one."""
    fact, now = answer_now(model, PROMPT, SUBJECT)
    assert (fact.relation, now) == ("landmark_city", "Paris")
    fact, now = answer_now(model, "My neighbour likes to eat", "neighbour")
    assert fact is None
    assert now


def test_the_controls_reach_the_method(model):
    """Forbids a layer, a factor or a clamp on the page that is not the one computed."""
    chosen = settings_of(
        model, replace(FIRST_EDIT, edit_layer=3, steps=7, kl_factor=0.5, clamp=2.0, edit_seed=4)
    )
    assert (chosen.layer, chosen.steps, chosen.kl_factor, chosen.clamp) == (3, 7, 0.5, 2.0)
    assert (chosen.seed, chosen.variant) == (4, "r-rome")
    assert settings_of(model, replace(FIRST_EDIT, method=ROME)).variant == "original"
    assert settings_of(model, replace(FIRST_EDIT, method=FT_L)).constrained
    assert settings_of(model, replace(FIRST_EDIT, method=MEMIT, edit_layer=4)).layers[-1] == 4
    assert settings_of(model, replace(FIRST_EDIT, method=IN_CONTEXT)) is None
    assert settings_of(model, FIRST_EDIT).layer == start_layer(model, R_ROME)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"subject": "Louvre"}, "letter by letter"), ({"new": "Paris"}, "nothing to change")],
)
def test_what_cannot_be_edited_is_said(model, settings, sentence):
    """Forbids a thread that is begun for an edit that cannot be made."""
    with pytest.raises(EditingError, match=sentence):
        request_of(model, replace(FIRST_EDIT, **settings)).tokenize(model)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_edits_and_leaves_the_shared_model_alone(model, method):
    """Forbids a method on offer that does not run, or changes the shared model."""
    before = model.run(PROMPT, last_logits_only=True)
    settings = replace(FIRST_EDIT, method=method)
    made = compute(model, model, settings, request_of(model, settings))
    after = model.run(made.prefix + PROMPT, made.interventions, last_logits_only=True)
    rome = model.to_single_token(" Rome")
    if method == IN_CONTEXT:  # tiny-world does not believe what its prompt says
        assert "Rome" in made.prefix
        assert not made.interventions
    else:
        assert after[0, -1, rome] > before[0, -1, rome]
    if method not in (FT_L, IN_CONTEXT):  # FT+L may be held too short to get there
        assert int(after[0, -1].argmax()) == rome
    assert torch.equal(model.run(PROMPT, last_logits_only=True), before)


def test_a_later_edit_sees_the_earlier_ones(model, edit):
    """Forbids a second edit that the ledger refuses, or that undoes the first."""
    ledger = Ledger(model)
    ledger.add(edit)
    second = replace(
        FIRST_EDIT, prompt="The Louvre is in the city of", subject="Louvre", new="Oslo"
    )
    made = compute(ledger.model(model), model, second, request_of(model, second))
    first = ledger.add(made)
    view = ledger.model(model)
    assert (says(view, PROMPT), says(view, second.prompt)) == ("Rome", "Oslo")
    ledger.remove(first.key)
    assert says(ledger.model(model), second.prompt) == "Paris"


def test_cancel_ends_the_optimisation(model):
    """Forbids work that goes on after *Cancel*, and a plot that has nothing to draw."""
    traces = []
    job = Job(lambda job: None)
    _work(model, model, FIRST_EDIT, job, traces.append)
    assert job.done
    assert traces[-1].steps[0].p_new < 0.5
    again = Job(lambda job: None)
    again.cancel()
    with pytest.raises(CancelledError):
        _work(model, model, FIRST_EDIT, again, traces.append)
    assert again.done == 1


@pytest.mark.parametrize("method", [R_ROME, MEMIT, FT_L, IN_CONTEXT])
def test_the_code_makes_the_same_edit(model, method, monkeypatch):
    """Forbids a script that is not what the page computed."""
    settings = replace(FIRST_EDIT, method=method, steps=6 if method == R_ROME else None)
    code = editing_code(model, settings)
    assert len(code.splitlines()) <= MOST_LINES
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: model)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # the page's own text, with this test's prompt in it
    mine = compute(model, model, settings, request_of(model, settings))
    theirs = names["edit"]
    assert theirs.prefix == mine.prefix
    for one, other in zip(theirs.terms, mine.terms, strict=True):
        assert torch.allclose(one.tensors["left"], other.tensors["left"], atol=1e-5)
        assert torch.allclose(one.tensors["right"], other.tensors["right"], atol=1e-5)


def test_hostile_words_stay_text_in_the_code(model):
    """Forbids a prompt that becomes code."""
    settings = replace(FIRST_EDIT, prompt=f"{EVIL}') is in", subject=EVIL, new="Rome")
    code = editing_code(model, settings)
    compile(code, "page", "exec")
    assert repr(EVIL) in code


def test_another_lab_s_code_loads_the_edits(model, edit, tmp_path, monkeypatch):
    """Forbids a script of an edited model that loads the original, or a model that is not there."""
    ledger = Ledger(model)
    ledger.add(edit)
    view = ledger.model(model)
    code = with_edits(f"model = HookedModel.from_pretrained({view.cfg.name!r})\n", view)
    (tmp_path / file_name("tiny-world")).write_bytes(ledger.to_bytes())
    monkeypatch.chdir(tmp_path)
    names = {"HookedModel": type("Fake", (), {"from_pretrained": staticmethod(lambda n: model)})}
    exec(code, names)  # the page's own text
    assert says(names["model"], PROMPT) == "Rome"
    assert with_edits("x", model) == "x"


def test_the_baked_model_is_a_checkpoint_in_a_zip(model, edit):
    """Forbids a download that transformers cannot load, and paths that leave its folder."""
    with zipfile.ZipFile(io.BytesIO(baked_zip(model, [edit]))) as packed:
        names = packed.namelist()
        assert "tiny-world-edited/config.json" in names
        assert "tiny-world-edited/model.safetensors" in names
        assert all(re.fullmatch(r"tiny-world-edited/[\w.-]+", name) for name in names)


def test_two_visitors_with_contradictory_edits(model):
    """Forbids one visitor's edit in the other's answers, generating at the same time."""
    views = {}
    for new in ("Rome", "London"):
        settings = replace(FIRST_EDIT, new=new)
        ledger = Ledger(model)
        ledger.add(compute(model, model, settings, request_of(model, settings)))
        views[new] = ledger.model(model)
    heard = {new: [] for new in views}

    def ask(new):
        for _ in range(5):
            tokens = views[new].generate(PROMPT, 2)
            heard[new].append(model.to_string(tokens[0]).removeprefix(model.to_string(0)))

    threads = [threading.Thread(target=ask, args=(new,)) for new in views]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for new, texts in heard.items():
        assert all(f"{PROMPT} {new}" in text for text in texts), texts
    assert says(model, PROMPT) == "Paris"


def test_an_edit_is_made_shown_switched_and_undone():
    """Forbids a page on which the two models are mixed up, or an undo that leaves something."""
    at = edited(opened())
    assert not at.exception
    assert not at.error
    assert "With your edits: **·Rome**" in said(at)
    assert "1 of 1 hold" in said(at)
    (switch,) = [box for box in at.checkbox if box.key.endswith("_on")]
    switch.uncheck().run()
    assert "0 of 1 hold" in said(at)
    assert "With your edits" not in said(at)
    at.button(key="editing_undo").click().run()
    assert "none yet" in said(at)


@pytest.mark.parametrize("view", [SCORES, NUMBERS])
def test_every_view_of_an_edit_is_drawn(view):
    """Forbids a scoreboard or a table of numbers that does not open."""
    at = edited(opened(view=view))
    assert not at.exception
    assert not at.error
    if view == SCORES:
        titles = " ".join(e.label for e in at.expander)
        assert re.search(r"Efficacy: 100%\*\*, unedited 0%", titles), titles
        assert "not comparable" in said(at)
    else:
        assert "denominator" in said(at)


def test_a_fact_of_one_s_own_is_judged_as_far_as_it_can_be():
    """Forbids a scoreboard that is silent on why it is short."""
    own = {"prompt": "My neighbour likes to eat", "subject": "neighbour", "new": "bread"}
    at = edited(opened(view=SCORES, **own))
    assert not at.exception
    assert not at.error
    assert "no record of this fact" in said(at)


def test_a_second_visitor_starts_with_an_empty_ledger():
    """Forbids an edit that another session sees."""
    first, second = edited(opened()), opened()
    assert "1 of 1 hold" in said(first)
    assert "none yet" in said(second)


def test_the_page_opens_with_its_lesson_and_the_other_labs_look_into_the_edit(open_page):
    """Forbids edits that reach other labs unasked, or that do not when asked, or stay for ever."""
    at = open_page("editing")
    assert not at.exception
    assert not at.error
    edited(at)
    assert not at.error
    at.toggle(key="edits_everywhere").set_value(True).run()
    at.switch_page("../pages/logit_lens.py").run()
    assert "tiny-world with 1 edit" in _titles(at)
    at.toggle(key="edits_everywhere").set_value(False).run()
    assert "tiny-world with 1 edit" not in _titles(at)


def _titles(at):
    return " ".join(json.loads(e.proto.json).get("title", "") for e in at.get("bidi_component"))


@pytest.mark.parametrize(
    "settings",
    [{"prompt": ""}, {"subject": "France"}, {"new": ""}, {"new": "Paris"}, {"prompt": EVIL},
     {"prompt": EVIL, "subject": EVIL, "new": EVIL}, {"prompt": "a " * 400, "subject": "a"},
     {"edit_layer": "99"}, {"edit_layer": "x"}, {"method": "x"}, {"steps": "-3"},
     {"method": IN_CONTEXT}, {"view": VIEWS and "lens"}, {"ask": EVIL, "temperature": "9"},
     {"ask": "a " * 400}, {"n_new": "9999"}],
    ids=lambda given: str(given)[:60],
)  # fmt: skip
def test_no_address_breaks_it(settings):
    """Forbids a traceback because of a mistyped or hostile address."""
    assert_unbroken(opened(**settings))
