"""Mass editing: many facts at once, how many hold, and where it all falls apart."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.mass_editing_lab.lab import mass_editing_column
    return mass_editing_column()


draw_lesson(load_lesson("mass-editing"), _lab)
