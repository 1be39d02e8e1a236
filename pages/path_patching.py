"""Path patching: the wires of one part, who speaks to it and through which of its inputs."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.patching_lab.lab import patching_column
        from app.patching_lab.settings import WIRES
    return patching_column(WIRES)


draw_lesson(load_lesson("path-patching"), _lab)
