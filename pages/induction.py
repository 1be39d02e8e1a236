"""Induction heads: how a model continues what it has never seen."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.presets import INDUCTION_PRESETS
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.attention_lab.lab import attention_column
        from app.attention_lab.settings import SCORES
    return attention_column(INDUCTION_PRESETS, first_view=SCORES)


draw_lesson(load_lesson("induction"), _lab)
