"""A transformer from scratch: every tensor of one forward pass, as numbers to recompute."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.transformer_lab.lab import transformer_lab
    return transformer_lab()


draw_lesson(load_lesson("transformer"), _lab)
