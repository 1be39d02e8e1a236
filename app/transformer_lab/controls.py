"""The lab's controls. Each explains itself, and is in the URL under its key."""

from __future__ import annotations

import streamlit as st

from app.errors import plain
from app.transformer_lab.settings import GLASS, MACHINES, Settings
from lens_core.glass.copying import N_CTX, VOCABULARY, WORDS
from lens_core.glass.forward import KINDS, ForwardSteps, Step

START = Settings()


def choose_machine() -> str:
    """The glass model with all its numbers, or the chosen model's shapes."""
    machine = st.segmented_control(
        "Look into",
        list(MACHINES),
        default=GLASS,
        required=True,
        key="machine",
        bind="query-params",
        help="  \n".join(f"**{name}**: {what}" for name, what in MACHINES.items()),
    )
    return machine or GLASS


def choose_sentence() -> str:
    """The words to read; unknown ones are said to be read as ``?``."""
    sentence = st.text_input(
        "Words to read",
        value=START.sentence,
        key="sentence",
        bind="query-params",
        persist_state="page",
        max_chars=200,
        help=f"The glass model knows {', '.join(WORDS)}, and reads at most {N_CTX - 1} words. The "
        "start token <s> is put before them.",
    )
    unknown = [w for w in dict.fromkeys((sentence or "").split()) if w.lower() not in VOCABULARY]
    if unknown:
        st.caption(
            f":material/info: The model does not know {plain(', '.join(unknown[:5]))}; it reads ? "
            "instead, a token for any other word."
        )
    return sentence or ""


def choose_tensor(steps: ForwardSteps) -> str:
    """The step to show, by name or one on or back."""
    keys = [step.key for step in steps]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        middle, back, on = st.container(width="stretch"), st.empty(), st.empty()
    tensor = middle.selectbox(
        f"Tensor, one of {len(keys)}",
        keys,
        key="tensor",
        bind="query-params",
        persist_state="page",
        help="Every tensor of the pass, in the order in which it comes about. The number after the "
        "point is the block.",
    )
    here = keys.index(tensor or START.tensor)
    back.button(
        "Back",
        key="tensor_back",
        icon=":material/arrow_back:",
        disabled=here == 0,
        on_click=_turn_to,
        args=(keys[max(here - 1, 0)],),
    )
    on.button(
        "Next",
        key="tensor_next",
        icon=":material/arrow_forward:",
        icon_position="right",
        disabled=here == len(keys) - 1,
        on_click=_turn_to,
        args=(keys[min(here + 1, len(keys) - 1)],),
    )
    return keys[here]


def _turn_to(key: str) -> None:
    st.session_state["tensor"] = key


def choose_cell(step: Step, tokens: tuple[str, ...]) -> tuple[int, str, bool]:
    """Row, column and whether empty columns are drawn; a click on the grid sets the first two."""
    state, last = st.session_state, len(tokens) - 1
    if state.get("row") is not None and not 0 <= state["row"] <= last:
        # Lessons count from the end with -1; a shorter sentence has fewer rows.
        state["row"] = last
    if state.get("column") not in step.columns:
        state["column"] = step.columns[_interesting(step, state.get("row") or 0)]
    left, middle, right = st.columns([1, 1.4, 1.6], vertical_alignment="bottom")
    row = left.number_input(
        "Row (position)",
        min_value=0,
        max_value=last,
        step=1,
        key="row",
        bind="query-params",
        persist_state="page",
        help="The same choice as a click on the grid.",
    )
    column = middle.selectbox(
        "Column",
        step.columns,
        key="column",
        bind="query-params",
        persist_state="page",
        help="The same choice as a click on the grid.",
    )
    zeros = right.checkbox(
        "Show empty columns",
        key="zeros",
        bind="query-params",
        persist_state="page",
        help="Columns that are 0 in every row are left out, unless you tick this.",
    )
    return int(row or 0), str(column), zeros


def _interesting(step: Step, row: int) -> int:
    """The column to begin with: the largest number of the row that is finite."""
    numbers = step.grid()[min(row, step.grid().shape[0] - 1)]
    return int(numbers.nan_to_num(neginf=-1.0).argmax())


def choose_factor() -> float:
    """By how much the last state is multiplied before the final LayerNorm."""
    factor = st.number_input(
        "Multiply the last state by",
        min_value=0.1,
        max_value=100.0,
        value=START.factor,
        step=1.0,
        key="factor",
        bind="query-params",
        persist_state="page",
        help=f"Every number of {KINDS['resid_post'].title.lower()} 1, in all rows, before the "
        "final LayerNorm reads it. 1 leaves it alone.",
    )
    return float(factor or 1.0)
