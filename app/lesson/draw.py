"""A lesson beside its lab: the step to read on the left, the lab on the right, sources below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.errors import polite_errors
from app.lesson import pieces, state, words
from app.lesson.checks import draw_check
from app.lesson.format import Block, Check, Hint, Lesson, Mislead, Predict, See, Text, Try
from app.lesson.guesses import draw_predict
from app.lesson.summary import take_away
from app.travel import remember

Lab = Callable[[], state.LabState | None]
_STEP, _TEXT = "step", "lesson-text"
_INTRO = "Start"
_LAB_ANCHOR = "lab"


@dataclass
class _Verdicts:
    """Where the shown verdicts go. While the page is drawn they wait for the lab."""

    waiting: bool = True
    slots: list[tuple[See, DeltaGenerator]] = field(default_factory=list)


def draw_lesson(lesson: Lesson, lab: Lab) -> None:
    """Draw the lesson and the lab that it is about.

    ``lab()`` draws the lab in the column it is called in and returns how it stands, or None where
    it shows nothing. Both are in one fragment: a click in the lab draws the lab and the verdicts
    anew; a click on a piece of the lesson draws that piece alone.
    """
    st.title(lesson.title)
    st.markdown(f"*{lesson.question}*")
    st.caption(f"{lesson.minutes} minutes, difficulty {lesson.difficulty} of 5")
    _page(lesson, lab)
    take_away(lesson)


@st.fragment(key=pieces.PAGE_FRAGMENT)
def _page(lesson: Lesson, lab: Lab) -> None:
    state.grant()
    verdicts = _Verdicts()
    text_column, lab_column = st.columns([1, 1.9], gap="large")
    with text_column:
        _text(lesson, verdicts)
    standing = None
    with lab_column, polite_errors():
        st.html(f"<div id='{_LAB_ANCHOR}'></div>")
        standing = lab()
    remember()
    state.remember_lab(lesson, None if standing is None else standing.settings)
    verdicts.waiting = False
    _fill(lesson, verdicts)


@st.fragment(key=_TEXT)
def _text(lesson: Lesson, verdicts: _Verdicts) -> None:
    verdicts.slots.clear()
    with st.container(key="lesson"):
        with st.container(key="to-lab"):
            st.markdown(f"[To the lab](#{_LAB_ANCHOR})")
        here = _choose_step(lesson)
        if here:
            st.header(lesson.steps[here - 1].title, anchor=False)
        for block in lesson.steps[here - 1].blocks if here else lesson.intro:
            _block(lesson, block, verdicts)
        _turn_pages(lesson, here)
    if not verdicts.waiting:
        _fill(lesson, verdicts)


def _choose_step(lesson: Lesson) -> int:
    """The number of the step in view; 0 is the introduction."""
    options = [_INTRO, *(str(n) for n in range(1, len(lesson.steps) + 1))]
    if st.session_state.get(_STEP, _INTRO) not in options:
        del st.session_state[_STEP]
    chosen = st.segmented_control(
        "Step of the lesson",
        options,
        default=_INTRO,
        required=True,
        key=_STEP,
        bind="query-params",
        label_visibility="collapsed",
    )
    return options.index(chosen or _INTRO)


def _turn_pages(lesson: Lesson, here: int) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if here:
            st.button(
                "Back",
                key="lesson-back",
                icon=":material/arrow_back:",
                type="tertiary",
                on_click=_turn_to,
                args=(str(here - 1) if here > 1 else _INTRO,),
            )
        if here < len(lesson.steps):
            st.button(
                f"Next: {lesson.steps[here].title}",
                key="lesson-next",
                icon=":material/arrow_forward:",
                icon_position="right",
                on_click=_turn_to,
                args=(str(here + 1),),
            )


def _turn_to(step: str) -> None:
    st.session_state[_STEP] = step


def _block(lesson: Lesson, block: Block, verdicts: _Verdicts) -> None:
    match block:
        case Text():
            words.write(block.markdown, where=f"{lesson.id}-{block.line}")
        case Try():
            pieces.draw_try(lesson, block)
        case Predict():
            draw_predict(lesson, block)
        case Check():
            draw_check(lesson, block)
        case Mislead():
            pieces.draw_mislead(lesson, block)
        case Hint():
            pieces.draw_hint(lesson, block)
        case See():
            pieces.draw_see(lesson, block)
            verdicts.slots.append((block, st.empty()))


def _fill(lesson: Lesson, verdicts: _Verdicts) -> None:
    shows = state.present(lesson) is not None
    for block, slot in verdicts.slots:
        pieces.fill_verdict(lesson if shows else None, block, slot)
