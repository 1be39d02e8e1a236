"""What each head looks at: every pattern of the model, on the learner's prompt."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.presets import ATTENTION_PRESETS
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.attention_lab.lab import attention_column
        from app.attention_lab.settings import GRID
    return attention_column(ATTENTION_PRESETS, first_view=GRID)


draw_lesson(load_lesson("attention-heads"), _lab)
