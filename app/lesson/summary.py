"""Below the lesson: how far the learner has come, to keep as a file, the notebook, the sources."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app.errors import plain, polite_errors
from app.lesson import progress, state
from app.lesson.format import Lesson
from app.lesson.notebook import notebook_json
from app.lesson.pieces import PROGRESS_FRAGMENT
from app.models import chosen_name

_UPLOAD, _TOLD = "lesson-progress-file", "lesson-progress-told"


def take_away(lesson: Lesson) -> None:
    """The progress of this visit, the lesson as a notebook, and what it rests on."""
    with st.container(key="lesson_end"):
        _progress(lesson)
        model = chosen_name()
        st.download_button(
            "This lesson as a notebook",
            lambda: notebook_json(lesson, model),
            file_name=f"{lesson.id}.ipynb",
            mime="application/x-ipynb+json",
            on_click="ignore",
            icon=":material/download:",
            key="lesson-notebook",
        )
        with st.expander("Sources"):
            st.markdown("\n".join(f"- {source}" for source in lesson.sources))


@st.fragment(key=PROGRESS_FRAGMENT)
def _progress(lesson: Lesson) -> None:
    # The file is made when it is asked for, where the session's state is out of reach.
    kept = state.all_progress()
    with polite_errors():
        st.header("Your progress", anchor=False)
        st.markdown(in_words(progress.summary(state.part_of(lesson), lesson)))
        with st.expander("Keep it, or bring it back"):
            st.caption(
                "Progress lasts as long as this visit. Nothing is stored here: save it as a small "
                "file, and open that file on a later visit or another computer."
            )
            st.download_button(
                "Save my progress",
                lambda: progress.dump(kept),
                file_name="lens-lab-progress.json",
                mime="application/json",
                on_click="ignore",
                icon=":material/download:",
                key="lesson-progress-save",
            )
            st.file_uploader(
                "Open saved progress",
                type="json",
                key=_UPLOAD,
                on_change=_open_file,
            )
            if _TOLD in st.session_state:
                good, sentence = st.session_state.pop(_TOLD)
                (st.success if good else st.error)(sentence)


def in_words(done: dict[str, float]) -> str:
    """A summary as one line."""
    said = [f"**{done['steps_done']:g} of {done['steps']:g}** steps done"]
    if done["predictions"]:
        n = done["predictions"]
        noun = "prediction" if n == 1 else "predictions"
        said.append(f"**{n:g}** {noun}, mean score **{done['score']:.2f}** of 1")
    if done["checks"]:
        said.append(f"**{done['checks_passed']:g} of {done['checks']:g}** checks passed")
    noun = "hint" if done["hints"] == 1 else "hints"
    said.append(f"{done['hints']:g} {noun} opened")
    return " · ".join(said)


def _open_file() -> None:
    file: UploadedFile | None = st.session_state.get(_UPLOAD)
    if file is None:
        return
    try:
        progress.merge(state.all_progress(), progress.load(file.getvalue()))
    except progress.ProgressError as error:
        st.session_state[_TOLD] = (False, plain(str(error)))
    else:
        st.session_state[_TOLD] = (True, "Welcome back: your saved progress is here again.")
        st.rerun("app")
