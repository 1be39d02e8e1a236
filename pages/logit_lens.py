"""The logit lens: the model's guess after every block, at every token of the learner's prompt."""

import streamlit as st

from app.lesson import closing, heading, load_lesson, reading

lesson = load_lesson("logit-lens")
heading(lesson)
text_column, lab_column = st.columns([1, 1.9], gap="large")
with text_column:
    reading(lesson, upto="How this could mislead you")
with lab_column, st.skeleton(height=420):
    # Imported here and not above: with it comes torch, and the text should be there before.
    from app.lens_lab import lens_column

    st.fragment(lens_column)()
closing(lesson, since="How this could mislead you")
