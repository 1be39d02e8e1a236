"""Lesson 12: its settings are the lab's, its measures tell what `lens_core.tracing` finds."""

import pytest

from app.lesson import load_lesson
from app.lesson.measures import measures
from app.tracing_lab.settings import Settings
from lens_core.model.errors import UnknownSiteError
from lens_core.tracing import GaussianNoise, TracingError, causal_trace

START = load_lesson("tracing").settings


@pytest.fixture
def ask(tiny_world, registered):
    """``ask("brings_back", {"at": 2}, layer=3)`` on the shipped model, as the lesson starts."""
    assert registered

    def run(measure, settings=None, **given):
        return measures()[measure].fn(tiny_world, {**START, **(settings or {})}, **given)

    return run


def test_the_lesson_asks_the_lab_only_for_what_it_has():
    """Forbids a lesson whose button sets a control that the lab does not have, or to no option."""
    lesson = load_lesson("tracing")
    for block in lesson.blocks():
        Settings.of({**lesson.settings, **(getattr(block, "settings", None) or {})})


def test_measures_are_the_trace_itself(tiny_world, ask):
    """Forbids a lesson that grades other noise, or another cell, than the lab shows."""
    found = causal_trace(
        tiny_world, START["prompt"], "Eiffel Tower", kinds=["state"], corruption=GaussianNoise()
    )
    effect = found.indirect_effect("state")
    assert ask("spoiling_costs") == pytest.approx(found.total_effect, abs=1e-4)
    assert ask("brings_back", layer=3, at=2) == pytest.approx(effect[3, 2], abs=1e-4)
    assert ask("brings_back", {"at": None}, layer=3) == pytest.approx(effect[3, 3], abs=1e-4)
    assert ask("peak_token", layer=2) == " Eiffel"


def test_another_subject_corrupts_without_noise(ask):
    """Forbids a corruption that the chosen one does not reach."""
    other = {"corruption": "other subject"}
    assert ask("spoiling_costs", other) > 0.95
    assert ask("brings_back", other, layer=4, at=-1) == pytest.approx(0, abs=1e-3)


def test_noise_on_other_words_costs_nothing(ask):
    """Forbids a control that is given other noise than the subject's."""
    assert ask("spoiling_costs", words="is in") == pytest.approx(0, abs=0.01)
    assert ask("spoiling_costs", words="city") > 0.3


def test_a_subject_that_is_not_there_is_said_politely(ask):
    """Forbids a traceback for a word that the prompt does not have, or a layer past the last."""
    with pytest.raises(TracingError, match="letter by letter"):
        ask("spoiling_costs", words="Louvre")
    with pytest.raises(UnknownSiteError, match="choose another model"):
        ask("brings_back", layer=11, at=2)
