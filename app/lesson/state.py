"""What the visit keeps for lessons: progress, and how the lab stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.lesson import progress
from app.lesson.evaluate import Bench
from app.lesson.format import Lesson
from app.lesson.measures import Measure, Value, measures

if TYPE_CHECKING:
    from lens_core import HookedModel

_PROGRESS, _PRESENT = "lesson_progress", "lesson_present"
_WANTED, _GRANTED = "lesson_wanted", "lesson_granted"


@dataclass(frozen=True)
class LabState:
    """What a lab returns once it is drawn: its model, and its settings as the URL has them."""

    model: HookedModel
    settings: Mapping[str, Any]


def all_progress() -> progress.Progress:
    """This visit's progress, in every lesson."""
    kept: progress.Progress = st.session_state.setdefault(_PROGRESS, {})
    return kept


def part_of(lesson: Lesson) -> dict[str, Any]:
    """This visit's progress in one lesson."""
    return progress.of_lesson(all_progress(), lesson.id)


def remember_lab(lesson: Lesson, settings: Mapping[str, Any] | None) -> None:
    """Keep how the lab stands, for what in the lesson is about the present prompt."""
    st.session_state[_PRESENT] = (lesson.id, None if settings is None else dict(settings))


def present(lesson: Lesson) -> dict[str, Any] | None:
    """The lab's settings as it was last drawn; None before that, or where it shows nothing."""
    lesson_id, settings = st.session_state.get(_PRESENT, (None, None))
    return settings if lesson_id == lesson.id else None


def want(settings: Mapping[str, Any]) -> None:
    """Have the lab's controls set when the page is drawn next.

    Streamlit 1.67 does not tell the browser of a widget's value that a callback has set before it
    asked for the rerun of a fragment by its key; set inside the rerun, it does.
    """
    st.session_state[_WANTED] = {**st.session_state.get(_WANTED, {}), **settings}


def grant() -> None:
    """Set the controls that are wanted. To be called before the lab draws them."""
    wanted = st.session_state.pop(_WANTED, {})
    for key, value in wanted.items():
        if key not in st.session_state and isinstance(value, str | int | float) and value != "":
            # Streamlit 1.67 puts what the script has set into the address only if the control was
            # drawn before; of one that comes with this run the address is told here.
            st.query_params[key] = str(value)
        st.session_state[key] = value
    st.session_state[_GRANTED] = tuple(wanted)


def granted() -> tuple[str, ...]:
    """The controls that were set for this run: a new prompt does not reset them."""
    names: tuple[str, ...] = st.session_state.get(_GRANTED, ())
    return names


def bench(lesson: Lesson) -> Bench:
    """The lesson's measures on the visitor's model, their results remembered for all visitors."""
    # Imported here: with them come torch and the labs, and the text should be there before.
    from app.lens_cache import fingerprint
    from app.models import chosen_model

    model = chosen_model()
    # Some measures ask for the name beside the weights.
    which = (fingerprint(model), model.cfg.name)

    def run(measure: Measure, settings: Mapping[str, Any], given: Mapping[str, Any]) -> Value:
        return _run(which, measure.name, dict(settings), dict(given), model)

    return Bench(lesson, run, present(lesson) or {})


@st.cache_data(max_entries=2000, show_spinner=False)
def _run(
    which: tuple[str, str],
    measure: str,
    settings: dict[str, Any],
    given: dict[str, Any],
    _model: HookedModel,
) -> Value:
    return measures()[measure].fn(_model, settings, **given)
