"""A lesson with every directive beside the smallest lab: run by the tests, in process and out."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from app.lesson import LabState, draw_lesson, load_lesson  # noqa: E402
from app.models import chosen_model  # noqa: E402
from tests.app import lesson_measures  # noqa: E402

FOLDER = Path(__file__).parent


def lab():
    """A prompt, a setting, and a count of how often it was drawn."""
    st.session_state["lab_runs"] = st.session_state.get("lab_runs", 0) + 1
    prompt = st.text_input("Prompt", "The Eiffel Tower is in", key="prompt", bind="query-params")
    site = st.selectbox("Site", ["resid_post", "attn_out"], key="site", bind="query-params")
    if not prompt.strip():
        return None
    st.caption(f"Lab drawn {st.session_state['lab_runs']} times")
    return LabState(chosen_model(), {"prompt": prompt, "site": site})


def main():
    """The page."""
    st.set_page_config(layout="wide")
    st.html(ROOT / "app" / "style.css")
    lesson = load_lesson("lesson_demo", FOLDER, lesson_measures.registered())
    draw_lesson(lesson, lab)


main()
