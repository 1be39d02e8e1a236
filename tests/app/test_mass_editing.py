"""The mass-editing lab's own parts: facts, the experiment, the code, both views, the column."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.jobs import CancelledError
from app.mass_editing_lab import curves_view, fact_view, locating_view, snippets
from app.mass_editing_lab.experiment import ladder, measure
from app.mass_editing_lab.methods import layers_of, leverage, settings_of, writers
from app.mass_editing_lab.rows import Row
from app.mass_editing_lab.settings import LOCATING, METHODS, TABLE, Settings
from app.mass_editing_lab.source import Facts, _fitting, world_records
from app.models import load_model
from lens_core.editing import EditRequest, memit, preset
from lens_core.editing.evaluate import Locating, Question
from tests.app.page import assert_unbroken

PROMPT, SUBJECT = "The Eiffel Tower is in the city of", "The Eiffel Tower"
EVIL = "</script><img src=x onerror=alert(1)>"
N = 2


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-world")


@pytest.fixture(scope="module")
def records(model):
    return world_records(model, n=N, seed=0)


def quick(model, layers=(0,)):
    """MEMIT with so short a search that a test need not wait."""
    own = replace(preset(model, "memit").settings, layers=layers, steps=2, n_contexts=1)
    return lambda view, requests, on_step: memit(view, requests, own, on_step=on_step)


@pytest.fixture(scope="module")
def found(model, records):
    return measure(model, records, {"memit": quick(model), "r-rome": quick(model)})


def column():
    from app.mass_editing_lab.lab import mass_editing_column

    mass_editing_column()


def opened(**params):
    at = AppTest.from_function(column, default_timeout=120)
    at.query_params.update({name: str(value) for name, value in {"n_facts": N, **params}.items()})
    return at.run()


def test_settings_come_from_texts():
    """Forbids a lesson's settings that differ from the same ones in the URL."""
    texts = {"n_facts": "20", "lam": "15000", "run_rome": "false", "run_ft": "True"}
    here = Settings.of(texts)
    assert here == Settings(n_facts=20, lam=15000, run_rome=False, run_ft=True)
    assert here.methods == ("memit", "ft")


def test_the_controls_reach_the_methods(model):
    """Forbids a control that changes nothing, and layers that the model does not have."""
    here = Settings(edit_layer=3, first_layer=2, last_layer=99, lam=1024)
    assert settings_of(model, "r-rome", here).layer == 3
    assert settings_of(model, "original", here).variant == "original"
    assert settings_of(model, "memit", here).layers == (2, 3, 4, 5, 6, 7)
    assert settings_of(model, "memit", here).covariance_weight == 1
    assert layers_of(model, Settings(first_layer=5, last_layer=1), (0,)) == (5,)
    assert set(writers(model, Settings())) == {"r-rome", "memit"}


def test_little_is_written_at_the_papers_lambda(model, records):
    """Forbids a live write fraction that does not fall with lambda as it must."""
    requests = tuple(r.request for r in records)
    rare = leverage(model, requests=requests, layer=0, made_with=preset(model, "memit").settings)
    small, large = rare.written(1), rare.written(15_000)
    assert all(0 < b < a < 1 for a, b in zip(small, large, strict=True))
    assert max(large) < 0.5


def test_a_table_without_old_answers_gets_those_of_the_model(model):
    """Forbids edits that are judged against no answer, and ones that change nothing."""
    new = EditRequest(PROMPT, SUBJECT, "Rome")
    same = EditRequest(PROMPT, SUBJECT, "Paris")
    rows, records, bad = _fitting(model, (Row(1, new), Row(2, same)))
    assert [row.request.target_true for row in rows] == ["Paris"]
    assert records[0].questions["paraphrase"]
    assert [one.number for one in bad] == [2]
    assert "already" in bad[0].reason


def test_every_count_is_scored_and_the_edits_are_kept(model, records, found):
    """Forbids a curve without its points, and edits that the ledger could not take."""
    assert found.stopped == ""
    assert [(p.method, p.n) for p in found.found.points] == [
        (name, n) for name in ("memit", "r-rome") for n in ladder(N)
    ]
    for edit in found.edits.values():
        assert edit.requests == tuple(r.request for r in records)
        model.edited([edit])
    assert found.unedited.latest == 0
    assert found.unedited.perplexity_ratio == pytest.approx(1, abs=1e-3)


def test_cancel_keeps_what_was_measured(model, records):
    """Forbids minutes of work that *Cancel* throws away."""
    seen = []

    def on_step(done, total):
        assert total == sum(ladder(N))
        if len(seen) == 1:
            raise CancelledError

    stopped = measure(
        model, records, {"memit": quick(model)}, on_step=on_step, on_curves=seen.append
    )
    assert "Cancelled" in stopped.stopped
    assert [p.n for p in stopped.found.points] == [1]
    assert len(stopped.edits["memit"].requests) == 1


def test_a_method_that_fails_does_not_take_the_others_along(model, records):
    """Forbids one bad setting that hides all other curves."""

    def fails(view, requests, on_step):
        settings_of(model, "memit", Settings())
        raise locating_view.EditingError("It cannot be done.")

    both = measure(model, records, {"emmet": fails, "memit": quick(model)})
    assert "It cannot be done." in both.stopped
    assert both.methods == ("memit",)


@pytest.mark.parametrize("dark", [False, True])
def test_every_score_has_its_figure(found, dark):
    """Forbids a score that is computed and not shown."""
    assert {"latest", "untouched", "perplexity_ratio"} <= set(curves_view.shown(found))
    for name in curves_view.shown(found):
        fig = curves_view.figure(found, name, dark=dark)
        assert fig.layout.title.text == curves_view.SCORES[name].title
        assert {"MEMIT", "ROME"} & {trace.name for trace in fig.data}
    assert "MEMIT from" in curves_view._told(found, "latest")


def test_a_fact_opens_its_prompts(model, records, found):
    """Forbids a number without the answers behind it."""
    frame = fact_view.answers(model, records[0], found.edits["memit"])
    assert frame["prompt"][0] == records[0].request.prompt
    assert set(frame["as wanted"]) <= {"yes", "no"}
    asked = [Question(PROMPT, "Rome"), Question(PROMPT, "London")]
    both = fact_view.contradiction(model, asked, found.edits)
    assert list(both["model"]) == ["unedited", "MEMIT", "ROME"]
    assert {"p(Rome)", "p(London)"} <= set(both.columns)


def test_the_code_gives_the_page_s_numbers(model, monkeypatch):
    """Forbids a script that is not what the page computed, and one of too many lines."""
    records = world_records(model, n=1, seed=3)
    chosen = Settings(n_facts=1, seed=3, run_rome=False, run_memit=False, run_ft=True, edit_layer=1)
    code = snippets.mass_code(model, chosen, Facts(records, (1,)))
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: model)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # the page's own text
    mine = measure(model, records, writers(model, chosen), seed=3).found.to_frame()
    theirs = names["found"].to_frame()
    for column in ("n", "latest", "paraphrase", "untouched", "perplexity_ratio"):
        assert np.allclose(mine[column], theirs[column], atol=1e-3, equal_nan=True)


def test_every_script_is_short_and_python(model, records):
    """Forbids a script that does not compile, and a visitor's text that becomes code."""
    every = Settings(**dict.fromkeys(METHODS, True), lam=15000)
    own = replace(records[0], request=EditRequest(f"{EVIL} is in", EVIL, "'); print('"))
    table = replace(every, source=TABLE)
    for settings, facts in (
        (every, Facts(records, (1, 2))),
        (table, Facts((own,) * 8, tuple(range(8)))),
        (table, Facts((own,) * 9, tuple(range(9)))),
    ):
        code = snippets.mass_code(model, settings, facts)
        compile(code, "page", "exec")
        assert len(code.splitlines()) <= snippets.MOST_LINES
    compile(snippets.locating_code(model, 4, 0), "page", "exec")


@pytest.mark.parametrize("varies", [True, False])
def test_locating_is_drawn_and_said(varies):
    """Forbids a correlation without its interval, and one that is made up where nothing varies."""
    rng = np.random.default_rng(0)
    effect = rng.random((6, 3))
    success = effect + 0.1 * rng.random((6, 3)) if varies else np.ones((6, 3))
    found = Locating(
        "tiny-world", "r-rome", "mlp", 2, tuple("abcdef"), (0, 1, 2), effect,
        {"rewrite": success, "paraphrase": success, "neighbourhood": success},
    )  # fmt: skip
    assert len(locating_view.sweeps(found, dark=False).data) == 4
    locating_view.correlations(found, "rewrite", dark=True)
    said = locating_view._conclusion(found, "rewrite")
    assert ("never varies" in said) != varies
    assert "6 facts" in said


def test_the_column_waits_to_be_asked():
    """Forbids a page that begins to write by itself, and one that does not open."""
    at = opened()
    assert not at.exception
    assert not at.error
    assert at.button(key="mass_start").label == f"Write {N} facts"
    assert any("Nothing has been written" in element.value for element in at.caption)
    assert any("At lambda" in element.value for element in at.caption)


def test_contradictions_in_the_table_are_said():
    """Forbids two answers to one question that nobody is told of."""
    at = opened(source=TABLE)
    assert not at.exception
    assert any("two answers" in element.value for element in at.caption)


def test_an_empty_table_is_an_invitation(monkeypatch):
    """Forbids an empty page, or a complaint, where there is nothing to write yet."""
    import app.mass_editing_lab.source as source

    monkeypatch.setattr(source, "_FIRST", [])
    at = opened(source=TABLE)
    assert not at.exception
    assert not at.error
    assert at.button(key="begin_world")


def test_the_locating_view_opens():
    """Forbids a view without what others found, or one that starts work by itself."""
    at = opened(view=LOCATING, n_locating=4)
    assert not at.exception
    assert not at.error
    assert any("Hase" in element.value for element in at.info)


@pytest.mark.parametrize(
    "settings",
    [{"view": "x"}, {"source": EVIL}, {"n_facts": "-4"}, {"n_facts": EVIL}, {"lam": "7"},
     {"lam": EVIL}, {"edit_layer": "99", "first_layer": "7", "last_layer": "0"},
     {"run_rome": "false", "run_memit": "false"}, {"opened": "99"}, {"seed": "x"},
     {"model": "glass-facts"}],
    ids=lambda given: str(given)[:60],
)  # fmt: skip
def test_no_address_breaks_it(settings):
    """Forbids a traceback because of a mistyped or hostile address."""
    assert_unbroken(opened(**settings))
