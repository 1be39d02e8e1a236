"""The tracing lab's own parts: settings, facts, what is asked, the code, the column."""

import contextlib
import io

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.jobs import CancelledError, Job
from app.models import load_model
from app.tracing_lab import many_view
from app.tracing_lab.asked import asked_of, corruption_of, place, trace_job
from app.tracing_lab.facts import FIRST, known_to, offered_facts, subject_of
from app.tracing_lab.many_view import _work
from app.tracing_lab.settings import MANY, OTHER_SUBJECT, Settings
from app.tracing_lab.snippets import MOST_LINES, tracing_code
from lens_core.tracing import GaussianNoise, TracingError, causal_trace, locate
from tests.app.page import assert_unbroken, maps, settled

PROMPT, SUBJECT = FIRST
EVIL = "</script><img src=x onerror=alert(1)>"
QUICK = {"samples": 2}


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-world")


def asked(model, **settings):
    chosen = {"prompt": PROMPT, "subject": SUBJECT, **QUICK, **settings}
    return asked_of(model, Settings(**chosen))


def found(job):
    assert job.finished.wait(120)
    assert job.error is None, job.error
    return job.result.result


def column():
    from app.tracing_lab.lab import tracing_column

    tracing_column()


def opened(**params):
    """The lab's column, run until its maps are computed."""
    at = AppTest.from_function(column, default_timeout=120)
    at.query_params.update({name: str(value) for name, value in {**QUICK, **params}.items()})
    return settled(at.run())


def test_settings_come_from_texts():
    """Forbids a lesson's settings that differ from the same ones in the URL."""
    texts = {"layer": "4", "at": "-1", "sigmas": "2.5", "window": "3", "kind": "mlp"}
    assert Settings.of(texts) == Settings(layer=4, at=-1, sigmas=2.5, window=3, kind="mlp")
    with pytest.raises(ValueError, match="corruption is one of"):
        Settings.of({"corruption": "x"})


def test_facts_on_offer_are_answered(model):
    """Forbids a fact on offer that the model does not know, and a subject that is not there."""
    facts = known_to(model, 6, seed=1)
    assert len(facts) == 6
    for fact in facts:
        assert locate(model, fact.prompt, subject_of(fact))[1] == (
            fact.subject_start,
            fact.subject_end,
        )
        best = int(model.run(fact.prompt, last_logits_only=True)[0, -1].argmax())
        assert model.to_str_tokens([best])[0].strip() == fact.object
    assert known_to(load_model("glass-induction"), 6, seed=1) == ()


def test_the_planted_facts_are_on_offer():
    """Forbids a glass model of facts that can be asked for none of them."""
    glass = load_model("glass-facts")
    for fact in offered_facts(glass):
        assert locate(glass, fact.prompt, fact.subject)
        best = int(glass.run(fact.prompt, last_logits_only=True)[0, -1].argmax())
        assert glass.to_str_tokens([best])[0].strip() == fact.object


def test_the_maps_are_the_library_s(model):
    """Forbids a window, a noise or a metric on the page that is not the one computed."""
    here = asked(model, window=3, sigmas=2.0, metric="logit", seed=5)
    mine = found(trace_job(here))
    live = causal_trace(
        model, PROMPT, SUBJECT, corruption=corruption_of(here.settings), window=3, metric="logit"
    )
    assert mine.windows == live.windows
    for kind, values in live.values.items():
        assert np.allclose(mine.values[kind], values, atol=1e-3)
    assert place(here, mine) == (0, 3)
    assert place(asked(model, at=-1, layer=99), mine) == (7, 8)


def test_what_cannot_be_had_is_said(model):
    """Forbids a bad subject or word that ends in anything but a sentence."""
    job = trace_job(asked(model, subject="the Louvre"))
    assert job.finished.wait(60)
    assert isinstance(job.error, TracingError)
    with pytest.raises(TracingError, match="another subject"):
        corruption_of(Settings(corruption=OTHER_SUBJECT))
    assert asked(model, target="zzzqqqxxx").notes


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"metric": "logit_difference", "foil": "London", "direction": "noise", "window": 1},
        {"corruption": OTHER_SUBJECT, "other_subject": "Brandenburg Gate"},
        {"severed": "attentions"},
    ],
    ids=str,
)
def test_the_code_gives_the_page_s_numbers(model, settings, monkeypatch):
    """Forbids a script that is not what the page computed."""
    here = asked(model, **settings)
    code = tracing_code(here)
    assert len(code.splitlines()) <= MOST_LINES
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: model)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # the page's own text, with this test's prompt in it
    frame = found(trace_job(here)).to_frame()
    assert np.allclose(names["found"].to_frame()["value"], frame["value"], atol=1e-3)


def test_the_code_of_many_facts_is_python(model):
    """Forbids a script of the average that does not even compile."""
    compile(tracing_code(asked(model, view=MANY)), "page", "exec")


def test_many_facts_count_their_steps_and_can_be_cancelled(model):
    """Forbids work that shows no progress, or that goes on after *Cancel*."""
    here = asked(model, view=MANY)
    job = Job(lambda job: _work(here, 3, job))
    average = _work(here, 3, job)
    assert len(average.traces) == 3
    assert (job.done, job.total) == (3, 3)
    again = Job(lambda job: _work(here, 3, job))
    again.cancel()
    with pytest.raises(CancelledError):
        _work(here, 3, again)
    assert again.done == 1
    after = _work(here, 3, Job(lambda job: None))
    for kind, effect in average.indirect_effect.items():
        assert np.array_equal(effect.mean, after.indirect_effect[kind].mean, equal_nan=True)


def test_the_column_draws_three_maps_and_the_warning():
    """Forbids a page that does not open, and one that does not say what tracing cannot tell."""
    at = opened()
    assert not at.exception
    assert not at.error
    state, mlp, attn = maps(at)
    assert (state["row"], state["place"]) == (0, 3)
    assert (mlp["row"], attn["row"]) == (-1, -1)
    assert any("where to edit" in element.value for element in at.warning)


def test_a_path_is_cut_off_in_a_map_of_its_own(model):
    """Forbids a cut that is not made, that hides the map it is compared with, or says nothing."""
    at = opened(severed="MLPs", kind="state_mlp_severed", at="2", layer="1")
    assert not at.exception
    assert not at.error
    drawn = maps(at)
    assert [(grid["row"], grid["place"]) for grid in drawn] == [
        (-1, -1),
        (1, 2),
        (-1, -1),
        (-1, -1),
    ]
    live = causal_trace(
        model, PROMPT, SUBJECT, kinds=["state_mlp_severed"], corruption=GaussianNoise(samples=2)
    )
    effect = live.indirect_effect("state_mlp_severed")[1, 2]
    assert float(drawn[1]["cells"][1][2]["text"]) == pytest.approx(effect, abs=0.006)
    assert any("nothing cut off" in element.value for element in at.markdown)
    gone = opened(kind="state_mlp_severed")  # the map is not drawn, so its cell is not chosen
    assert (maps(gone)[0]["row"], len(maps(gone))) == (0, 3)


def test_an_average_is_kept_under_what_it_was_made_with(model):
    """Forbids the numbers of one setting under another that was chosen while they were made."""
    key = many_view._key(asked(model, view=MANY))
    for other in ({"severed": "MLPs"}, {"sigmas": 2.0}, {"window": 3}, {"seed": 1}):
        assert many_view._key(asked(model, view=MANY, **other)) != key


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"subject": "Louvre"}, "is not in the prompt"),
        ({"prompt": "one " * 400, "subject": "one"}, "shorten"),
        ({"target": "zzzqqqxxx"}, "Shown instead"),
        ({"corruption": OTHER_SUBJECT, "other_subject": "Louvre"}, "choose one with as many"),
    ],
    ids=["no such subject", "400 tokens", "target of several tokens", "unequal subject"],
)
def test_what_cannot_be_traced_is_said_in_a_sentence(settings, words):
    """Forbids a traceback, or a trace of something else without a word about it."""
    at = opened(**settings)
    assert not at.exception
    said = [element.value for element in (*at.error, *at.caption)]
    assert any(words in text for text in said), said


def test_the_page_opens_with_its_lesson(open_page):
    """Forbids a lesson and a lab that do not fit together."""
    at = open_page("tracing", **{name: str(value) for name, value in QUICK.items()})
    assert not at.exception
    assert not at.error
    assert at.text_input(key="subject").value == SUBJECT


@pytest.mark.parametrize(
    "settings",
    [{"view": MANY}, {"corruption": OTHER_SUBJECT}, {"subject": "France"}, {"prompt": EVIL},
     {"prompt": EVIL, "subject": EVIL}, {"prompt": "a " * 400, "subject": "a"}, {"window": "99"},
     {"sigmas": "-3"}, {"samples": "x"}, {"at": "999", "layer": "99", "kind": "x"},
     {"metric": "logit_difference"}, {"foil": EVIL}, {"direction": "noise"}],
    ids=lambda given: str(given)[:60],
)  # fmt: skip
def test_no_address_breaks_it(settings):
    """Forbids a traceback because of a mistyped or hostile address."""
    assert_unbroken(opened(**settings))
