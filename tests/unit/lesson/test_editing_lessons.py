"""Lesson 13: its settings are the lab's, its measures tell what `lens_core.editing` finds."""

import pytest

from app.editing_lab.settings import Settings
from app.lesson import load_lesson
from app.lesson.measures import measures
from lens_core.editing import EditingError, predicted_bleed, preset, rome
from lens_core.editing.evaluate import record_of, score

START = load_lesson("editing").settings


@pytest.fixture
def ask(tiny_world, registered):
    """``ask("edit_rank", {"edit_layer": 2})`` on the shipped model, as the lesson starts."""
    assert registered

    def run(measure, settings=None, **given):
        return measures()[measure].fn(tiny_world, {**START, **(settings or {})}, **given)

    return run


def test_the_lesson_asks_the_lab_only_for_what_it_has():
    """Forbids a lesson whose button sets a control that the lab does not have, or to no option."""
    lesson = load_lesson("editing")
    for block in lesson.blocks():
        Settings.of({**lesson.settings, **(getattr(block, "settings", None) or {})})


def test_the_lesson_begins_as_the_preset_does(tiny_world):
    """Forbids a lesson that teaches settings which the lab has long left."""
    chosen = preset(tiny_world).settings
    assert START["edit_layer"] == chosen.layer
    assert START["steps"] == chosen.steps
    assert START["kl_prompts"] == chosen.kl_prompts
    assert START["clamp"] == chosen.clamp


def test_measures_are_the_edit_itself(tiny_world, ask):
    """Forbids a lesson that grades another edit, or other scores, than the lab shows."""
    from app.editing_lab.asked import request_of, settings_of

    settings = Settings.of(START)
    request = request_of(tiny_world, settings)
    edit = rome(tiny_world, request, settings_of(tiny_world, settings))
    found = edit.trace.diagnostics[0]
    assert ask("edit_number", of="denominator") == pytest.approx(found.denominator, rel=1e-3)
    galata = "The Galata Tower is in the city of"
    share = float(predicted_bleed(tiny_world, edit, galata).strongest()[0])
    assert ask("bleeds_into", ask=galata) == pytest.approx(share, abs=1e-3)
    scores = score(tiny_world, edit, record_of(tiny_world, request))
    assert ask("edit_score", key="neighbourhood") == scores.rate("neighbourhood").after
    assert ask("edit_rank") == 1


def test_a_wrong_subject_is_said_politely(ask):
    """Forbids a traceback for a subject that is not in the sentence."""
    with pytest.raises(EditingError, match="letter by letter"):
        ask("edit_rank", {"subject": "Louvre"})
