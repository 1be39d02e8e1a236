"""The indirect-object circuit: heads are kept, all others knocked out, and the rest is scored."""

import streamlit as st

from app.lesson import draw_lesson, load_lesson
from app.warmup import heavy_imports


def _lab():
    with st.skeleton(height=420):
        heavy_imports()
        # Imported here and not above: with it comes torch, and the text should be there before.
        from app.circuit_lab.lab import circuit_column
    return circuit_column()


draw_lesson(load_lesson("circuits"), _lab)
