"""Activation patching: one activation of one run put into another, and what the answer does."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.patching_lab.lab import patching_column
    return patching_column()


draw_lesson(load_lesson("patching"), _lab)
