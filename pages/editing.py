"""Rank-one editing: one fact is rewritten by one small change, and what else that breaks."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.editing_lab.lab import editing_column
    return editing_column()


draw_lesson(load_lesson("editing"), _lab)
