"""The lenses: the model's guess after every block, at every token of the learner's prompt."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.lens_lab import lens_column
    return lens_column()


draw_lesson(load_lesson("logit-lens"), _lab)
with st.expander("What the paper claims, repeated here in miniature"):
    from app.replications import replications_section

    replications_section()
