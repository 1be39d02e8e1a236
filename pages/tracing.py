"""Causal tracing: a fact is corrupted, one state is restored, and the answer comes back."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.tracing_lab.lab import tracing_column
    return tracing_column()


draw_lesson(load_lesson("tracing"), _lab)
