"""The directives as they are drawn: each a fragment of its own, so that a click reruns it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.errors import plain, polite_errors
from app.lesson import progress, state, words
from app.lesson.evaluate import control, shown, shown_than, verdict
from app.lesson.format import Hint, Lesson, Mislead, See, Try
from app.models import DEFAULT_MODEL, chosen_name

PROGRESS_FRAGMENT = "lesson-progress"
PAGE_FRAGMENT = "lesson-page"
_NOTHING = ""


def key_of(kind: str, lesson: Lesson, name: str) -> str:
    """A widget's or fragment's key, apart from those of every lab and lesson."""
    return f"lesson-{kind}-{lesson.id}-{name}"


def submit(key: str, answer: Any) -> None:
    """Hand in what stands in a form, to be taken up by `submitted` when its piece is drawn."""
    answer = answer.strip() if isinstance(answer, str) else answer
    st.session_state[f"{key}-pending"] = _NOTHING if answer in (None, "", []) else answer
    st.rerun([key, PROGRESS_FRAGMENT])


def submitted(key: str) -> Any:
    """What was handed in since, or None; says so where the form was empty."""
    answer = st.session_state.pop(f"{key}-pending", None)
    if answer == _NOTHING:
        st.info("Give an answer first.", icon=":material/info:")
        return None
    return answer


def draw_try(lesson: Lesson, block: Try) -> None:
    """A button that sets the lab's controls, and the address that opens the lab like that."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            block.label,
            key=key_of("try", lesson, f"{block.line}"),
            icon=":material/play_arrow:",
            on_click=_set_controls,
            args=(lesson, block.settings, progress.try_id(block)),
        )
        called = f"{plain(block.label)}, as a link"
        st.markdown(f':small[[link]({_address(block.settings)} "{called}")]', width="content")


def _set_controls(lesson: Lesson, settings: Mapping[str, Any], name: str) -> None:
    state.want(settings)
    progress.mark(state.part_of(lesson), "tried", name)
    st.rerun(PAGE_FRAGMENT)


def _address(settings: Mapping[str, Any]) -> str:
    carried: dict[str, Any] = {}
    if chosen_name() != DEFAULT_MODEL:
        carried["model"] = chosen_name()
    # A list is given as the URL has it: its name once for each item.
    return "?" + urlencode({**carried, **settings}, doseq=True)


def draw_see(lesson: Lesson, block: See) -> None:
    """What there is to see; whether it holds here comes below."""
    words.write(f":material/visibility: {block.text}", where=f"{lesson.id}-{block.id}")


def fill_verdict(lesson: Lesson | None, block: See, slot: DeltaGenerator) -> None:
    """The verdict on the present prompt, with its number; without a lesson, that it is to come."""
    if lesson is None:
        slot.caption("Whether it holds on your prompt is said here once the lab shows it.")
        return
    with slot.container(), polite_errors():
        holds, value, than = verdict(state.bench(lesson), block)
        said = (block.yes if holds else block.no).format(
            value=plain(shown(value)), than=plain(shown_than(than))
        )
        if holds:
            st.markdown(f":green-badge[:material/check: holds here] {said}")
        else:
            st.markdown(f":orange-badge[:material/close: not here] {said}")


def draw_hint(lesson: Lesson, block: Hint) -> None:
    """A hint to open; opened ones are counted."""
    with st.expander(
        block.label,
        icon=":material/lightbulb:",
        key=key_of("hint", lesson, block.id),
        on_change=opened,
        args=(lesson, block.id),
    ):
        words.write(block.markdown, where=f"{lesson.id}-{block.id}")


def opened(lesson: Lesson, name: str) -> None:
    """Count a hint, once."""
    progress.mark(state.part_of(lesson), "opened", name)
    st.rerun(PROGRESS_FRAGMENT)


def draw_mislead(lesson: Lesson, block: Mislead) -> None:
    """A caveat with its control run on demand."""
    key = key_of("mislead", lesson, block.id)

    @st.fragment(key=key)
    def piece() -> None:
        with st.container(border=True), polite_errors():
            st.markdown(f"**{block.label}**")
            words.write(block.text, where=key)
            st.button(
                "Run the control",
                key=f"{key}-run",
                icon=":material/science:",
                on_click=_run_control,
                args=(lesson, block.id, key),
            )
            if st.session_state.get(f"{key}-asked"):
                _control_numbers(lesson, block)

    piece()


def _run_control(lesson: Lesson, name: str, key: str) -> None:
    st.session_state[f"{key}-asked"] = True
    progress.mark(state.part_of(lesson), "tried", name)
    st.rerun([key, PROGRESS_FRAGMENT])


def _control_numbers(lesson: Lesson, block: Mislead) -> None:
    with st.spinner("Running the model"):
        real, other = (plain(shown(value)) for value in control(state.bench(lesson), block))
    left, right = st.columns(2)
    left.metric("As asked", real)
    right.metric("Control run", other)
    if block.reads:
        words.write(
            block.reads.format(real=real, control=other), where=key_of("reads", lesson, block.id)
        )
