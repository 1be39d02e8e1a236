"""The text of a lesson as Markdown: its heading, what to read beside the lab, what closes it."""

from __future__ import annotations

import streamlit as st

from app.lesson.format import Lesson, Step, Text
from app.lesson.glossary import plain_text


def heading(lesson: Lesson) -> None:
    """The title, the question that the lesson answers, and what it costs."""
    st.title(lesson.title)
    st.markdown(f"*{lesson.question}*")
    st.caption(f"{lesson.minutes} minutes, difficulty {lesson.difficulty} of 5")


def reading(lesson: Lesson, *, upto: str) -> None:
    """The text to read before and beside the lab: everything before the step ``upto``."""
    with st.container(key="lesson"):
        for block in lesson.intro:
            if isinstance(block, Text):
                st.markdown(plain_text(block.markdown))
        for step in lesson.steps:
            if step.title == upto:
                break
            st.markdown(f"## {step.title}\n\n{_body(step)}")


def closing(lesson: Lesson, *, since: str) -> None:
    """The step ``since`` and what follows it, and the sources, to open below the lab."""
    titles = [step.title for step in lesson.steps]
    for step in lesson.steps[titles.index(since) :]:
        with st.expander(step.title):
            st.markdown(_body(step))
    with st.expander("Sources"):
        st.markdown("\n".join(f"- {source}" for source in lesson.sources))


def _body(step: Step) -> str:
    texts = [block.markdown for block in step.blocks if isinstance(block, Text)]
    return plain_text("\n\n".join(texts))
