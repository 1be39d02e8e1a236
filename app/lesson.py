"""Lessons: one Markdown file each in ``content/lessons``, with front matter and ``##`` sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
import yaml

FOLDER = Path(__file__).resolve().parent.parent / "content" / "lessons"
_FRONT = re.compile(r"\A---\n(.*?)\n---\n(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class Lesson:
    """A lesson as read: its front matter, the text before the first section, the sections."""

    title: str
    question: str
    minutes: int
    difficulty: int
    sources: tuple[str, ...]
    intro: str
    sections: dict[str, str]


class LessonError(ValueError):
    """The file is not a lesson; the message names the file and what is wrong with it."""


def load_lesson(name: str, folder: Path = FOLDER) -> Lesson:
    """Read ``<name>.md``. Raises LessonError with file and reason where it is malformed."""
    path = folder / f"{name}.md"
    match = _FRONT.match(path.read_text(encoding="utf-8"))
    if match is None:
        raise LessonError(f"{path}: it must begin with front matter between two lines of ---")
    front = yaml.safe_load(match.group(1))
    fields = {"title", "question", "minutes", "difficulty", "sources"}
    if not isinstance(front, dict) or front.keys() != fields:
        raise LessonError(f"{path}: the front matter must hold exactly {', '.join(sorted(fields))}")
    intro, *parts = re.split(r"^## +(.+)$", match.group(2), flags=re.MULTILINE)
    sections = dict(
        zip((p.strip() for p in parts[::2]), (p.strip() for p in parts[1::2]), strict=True)
    )
    return Lesson(
        **{**front, "sources": tuple(front["sources"])}, intro=intro.strip(), sections=sections
    )


def heading(lesson: Lesson) -> None:
    """The title, the question that the lesson answers, and what it costs."""
    st.title(lesson.title)
    st.markdown(f"*{lesson.question}*")
    st.caption(f"{lesson.minutes} minutes, difficulty {lesson.difficulty} of 5")


def reading(lesson: Lesson, *, upto: str) -> None:
    """The text to read before and beside the lab: everything before the section ``upto``."""
    with st.container(key="lesson"):
        st.markdown(lesson.intro)
        for name, body in lesson.sections.items():
            if name == upto:
                break
            st.markdown(f"## {name}\n\n{body}")


def closing(lesson: Lesson, *, since: str) -> None:
    """The section ``since`` and what follows it, and the sources, to open below the lab."""
    names = list(lesson.sections)
    for name in names[names.index(since) :]:
        with st.expander(name):
            st.markdown(lesson.sections[name])
    with st.expander("Sources"):
        st.markdown("\n".join(f"- {source}" for source in lesson.sources))
