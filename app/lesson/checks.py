"""Checks on the page: an answer is graded by running the model, as often as the learner likes."""

from __future__ import annotations

import streamlit as st

from app.errors import plain, polite_errors
from app.lesson import progress, state, words
from app.lesson.evaluate import Grade, grade, shown, shown_than
from app.lesson.format import Answer, Check, Lesson, Measured
from app.lesson.pieces import PAGE_FRAGMENT, PROGRESS_FRAGMENT, key_of, submit, submitted

_MAX_CHARS = 2000


def draw_check(lesson: Lesson, block: Check) -> None:
    """The question, an input for the answer, what came of the last one, and hints on demand."""
    key = key_of("check", lesson, block.id)

    @st.fragment(key=key)
    def piece() -> None:
        with st.container(border=True), polite_errors():
            st.caption(":material/task_alt: Check")
            words.write(block.question, where=key)
            _ask(lesson, block, key)
            _grade_pending(lesson, block, key)
            _result(lesson, block, key)
            _hints(lesson, block, key)

    piece()


def _ask(lesson: Lesson, block: Check, key: str) -> None:
    if block.kind == "budget":
        st.caption(_target(block))
    with st.form(f"{key}-form", border=False):
        _answer_input(block, f"{key}-answer")
        label = "Grade the lab as it stands" if block.kind == "budget" else "Check"
        st.form_submit_button(label, on_click=_submit, args=(block, key))
    if block.kind == "find-prompt":
        st.button(
            "Put my prompt into the lab",
            key=f"{key}-lab",
            on_click=_into_lab,
            args=(f"{key}-answer",),
            type="tertiary",
            icon=":material/input:",
        )


def _target(block: Check) -> str:
    wanted = "; ".join(
        f"{_spoken(c.measured)} {c.op} "
        + (_spoken(c.than) if isinstance(c.than, Measured) else plain(shown_than(c.than)))
        for c in block.conditions
    )
    return f"Target: {wanted}. Budget: {shown(block.budget)}."


def _spoken(measured: Measured) -> str:
    return measured.name.replace("_", " ")


def _answer_input(block: Check, key: str) -> None:
    if block.kind == "number":
        unit = f", in {block.unit}" if block.unit else ""
        st.number_input(f"Your answer{unit}", value=None, step=None, format="%g", key=key)
    elif block.kind == "find-prompt":
        st.text_input("Your prompt", key=key, max_chars=_MAX_CHARS)
    elif block.ranking is not None and block.ranking.choose > 1:
        n = block.ranking.choose
        st.multiselect(f"Choose {n}", list(block.ranking.options), max_selections=n, key=key)
    elif block.ranking is not None:
        st.radio("Your answer", list(block.ranking.options), index=None, key=key)


def _submit(block: Check, key: str) -> None:
    submit(key, {} if block.kind == "budget" else st.session_state.get(f"{key}-answer"))


def _into_lab(key: str) -> None:
    text = (st.session_state.get(key) or "").strip()
    if text:
        state.want({"prompt": text})
        st.rerun(PAGE_FRAGMENT)


def _grade_pending(lesson: Lesson, block: Check, key: str) -> None:
    answer: Answer | None = submitted(key)
    if answer is None:
        return
    st.session_state.pop(f"{key}-grade", None)
    if block.kind == "budget" and state.present(lesson) is None:
        st.info("The lab shows nothing yet that could be graded.")
        return
    with st.spinner("Running the model"):
        result = grade(state.bench(lesson), block, answer)
    progress.answered(state.part_of(lesson), block.id, passed=result.passed)
    st.session_state[f"{key}-grade"] = result


def _result(lesson: Lesson, block: Check, key: str) -> None:
    kept = state.part_of(lesson)["checks"].get(block.id)
    result: Grade | None = st.session_state.get(f"{key}-grade")
    if result is not None:
        if result.passed:
            st.success(f"Right. {plain(result.said)}", icon=":material/check:")
        else:
            st.warning(f"Not yet. {plain(result.said)}", icon=":material/close:")
    elif kept and kept["passed"]:
        st.caption(":material/check: Passed.")
    if kept and kept["passed"] and block.why:
        words.write(block.why, where=f"{key}-why")


def _hints(lesson: Lesson, block: Check, key: str) -> None:
    part = state.part_of(lesson)
    names = [f"{block.id} hint {n}" for n in range(1, len(block.hints) + 1)]
    n_open = sum(name in part["opened"] for name in names)
    for n, text in enumerate(block.hints[:n_open], start=1):
        words.write(f":material/lightbulb: {text}", where=f"{key}-hint-{n}")
    if n_open < len(names):
        st.button(
            f"Hint {n_open + 1} of {len(names)}",
            key=f"{key}-hint",
            type="tertiary",
            icon=":material/lightbulb:",
            on_click=_open_hint,
            args=(lesson, names[n_open], key),
        )


def _open_hint(lesson: Lesson, name: str, key: str) -> None:
    progress.mark(state.part_of(lesson), "opened", name)
    st.rerun([key, PROGRESS_FRAGMENT])
