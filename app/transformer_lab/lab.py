"""The lab of *A transformer from scratch*: one step of the pass at a time, as numbers."""

from __future__ import annotations

import time

import streamlit as st

from app.errors import plain
from app.lesson.state import LabState
from app.theme import is_dark
from app.transformer_lab.controls import (
    choose_cell,
    choose_factor,
    choose_machine,
    choose_sentence,
    choose_tensor,
)
from app.transformer_lab.grid import step_grid, step_heading
from app.transformer_lab.passes import Pass, glass_pass, notes, shared_glass
from app.transformer_lab.settings import SHAPES, Settings
from app.transformer_lab.shapes import shapes
from app.transformer_lab.snippet import transformer_code
from app.transformer_lab.weights import changed_weights, current_edits
from lens_core.glass import explain
from lens_core.plots.glass import before_after


def transformer_lab() -> LabState | None:
    """Draw the lab and return how it stands, for the lesson beside it."""
    if choose_machine() == SHAPES:
        shapes()
        kept = {str(name): value for name, value in st.session_state.items()}
        return LabState(shared_glass(), Settings.of(kept).as_dict())
    sentence = choose_sentence()
    if not sentence.strip():
        st.info("Type a few of the four words: ant, bee, cat, dog.")
        return None
    began = time.perf_counter()
    edits = current_edits()
    shown = glass_pass(sentence, edits, float(st.session_state.get("factor") or 1.0))
    _answer(shown)
    tensor = choose_tensor(shown.steps)
    step = shown.steps[tensor]
    step_heading(step, shown)
    slot = st.container()
    row, column, zeros = choose_cell(step, shown.steps.tokens)
    with st.expander("More settings"):
        factor = choose_factor()
    settings = Settings(sentence, tensor, row, column, zeros, edits, factor)
    with slot:
        step_grid(shown, step, settings, notes(sentence, edits, factor, tensor))
        _arithmetic(shown, settings)
    changed_weights(shown, edits)
    if edits or factor != 1:
        _before_after(shown, row)
    _take_away(shown, settings, 1000 * (time.perf_counter() - began))
    return LabState(shared_glass(), settings.as_dict())


def _answer(shown: Pass) -> None:
    probabilities = shown.steps["probabilities"]
    last = probabilities.tensor[-1]
    best = int(last.argmax())
    said = f"After **{plain(shown.steps.tokens[-1])}** the model says "
    said += f"**{plain(probabilities.columns[best])}** ({float(last[best]):.1%})."
    if float(last[best]) < 0.25:
        said += " That is hardly more than its guess at any other token: it has no opinion."
    st.markdown(said)


def _arithmetic(shown: Pass, settings: Settings) -> None:
    step = shown.steps[settings.tensor]
    told = explain(
        shown.model,
        shown.steps,
        settings.tensor,
        position=settings.row,
        column=step.columns.index(settings.column),
    )
    where = f"{settings.tensor}, row {settings.row} ({shown.steps.tokens[settings.row]})"
    st.markdown(f"**The arithmetic** of {plain(where)}, column *{plain(settings.column)}*")
    st.code("\n".join(told.lines()), language=None, wrap_lines=True)


def _before_after(shown: Pass, row: int) -> None:
    last = len(shown.steps.tokens) - 1
    steps = [passed["probabilities"] for passed in (shown.before, shown.steps)]
    before, after = (step.tensor[last].tolist() for step in steps)
    st.plotly_chart(
        before_after(steps[0].columns, before, after, dark=is_dark()),
        theme=None,
        key="glass_before_after",
        config={"displayModeBar": False},
        alt="Bars: the probability of each next token, before and after the change",
    )
    moved = max(abs(a - b) for a, b in zip(before, after, strict=True))
    st.caption(
        f"The answer after the last word, as the model was made and as it is now. The largest "
        f"move is {moved:.2f}. In the grid, numbers that changed are underlined."
    )


def _take_away(shown: Pass, settings: Settings, took_ms: float) -> None:
    st.download_button(
        "Table (CSV)",
        lambda: shown.steps.to_frame().to_csv(index=False),
        file_name="forward_pass.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
        help="Every number of every step of this pass.",
    )
    with st.expander("Show the code"):
        st.caption("This pass and this cell, outside the page. Run it where lens_core is there.")
        st.code(transformer_code(settings), language="python")
    st.caption(
        f"{shown.model.cfg.name}: {shown.model.cfg.n_params:,} weights, float32, nothing random; "
        f"one prompt, {len(shown.steps.tokens)} tokens, {took_ms:.0f} ms."
    )
