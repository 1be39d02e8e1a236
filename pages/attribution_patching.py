"""Attribution patching: every patch of the map estimated from two passes and a gradient."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.patching_lab.lab import patching_column
        from app.patching_lab.settings import ATTRIBUTION
    return patching_column(ATTRIBUTION)


draw_lesson(load_lesson("attribution-patching"), _lab)
