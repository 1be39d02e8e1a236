"""The first page: what Lens Lab is, the labs that are open, and the course to come."""

import streamlit as st

from app.lesson import load_lesson
from app.shell import link
from app.syllabus import LABS, by_unit

st.title("Look inside a language model while it works")
with st.container(key="lesson"):
    st.markdown(
        "Short lessons, each beside a live model: read what a paper claims, then do its experiment "
        "on your own prompt and see whether it holds. The model runs where this page comes from; "
        "what you type is sent nowhere else."
    )

st.header("Open")
for lab in LABS:
    if lab.page:
        lesson = load_lesson(lab.page.replace("_", "-"))
        with st.container(border=True, key=f"open_{lab.page}", gap="xsmall"):
            link(lab.page, f"**{lab.title}**", icon=":material/arrow_forward:")
            st.markdown(f"*{lab.question}*")
            st.markdown(lab.summary)
            st.caption(f"{lesson.minutes} minutes, difficulty {lesson.difficulty} of 5")

st.header("To come")
with st.container(key="lesson_to_come"):
    for unit, labs in by_unit():
        coming = [lab for lab in labs if not lab.page]
        lines = [f"- **{lab.title}.** {lab.question}" for lab in coming]
        if lines:
            st.markdown(f"*{unit}*\n\n" + "\n".join(lines))
