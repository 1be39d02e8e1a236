"""Direct logit attribution: which part of the model wrote the answer."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.presets import ATTRIBUTION_PRESETS
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.attention_lab.lab import attention_column
        from app.attention_lab.settings import ANSWER
    return attention_column(ATTRIBUTION_PRESETS, first_view=ANSWER)


draw_lesson(load_lesson("attribution"), _lab)
