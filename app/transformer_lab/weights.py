"""Change a weight: choose it by the names of its row and column, set it, undo it."""

from __future__ import annotations

import streamlit as st

from app.errors import plain
from app.transformer_lab.passes import Pass, shared_glass
from lens_core.glass import WeightEdit, format_edits, parse_edits, weight_of
from lens_core.glass.arithmetic import number
from lens_core.glass.labels import weight_labels
from lens_core.glass.weights import GLOBAL_WEIGHTS, HEAD_WEIGHTS, LARGEST
from lens_core.model.errors import InterventionError

_EDITS = "edits"
_TABLES = (
    *(f"{name}.{layer}" for layer in (0, 1) for name in ("W_Q", "b_Q", "W_K", "W_V", "W_O")),
    *(f"{name}.{layer}" for layer in (0, 1) for name in ("W_in", "W_out")),
    *GLOBAL_WEIGHTS,
)
_WHAT = {
    "W_E": "token to columns",
    "W_pos": "position to columns",
    "W_Q": "columns to query",
    "b_Q": "added to every query",
    "W_K": "columns to key",
    "W_V": "columns to value",
    "W_O": "value to columns",
    "W_in": "columns to neuron",
    "W_out": "neuron to columns",
    "W_U": "columns to logits",
}


def current_edits() -> str:
    """The changed weights as text; what the address holds that is none is dropped, and said so."""
    # Before the box is first drawn, only the address knows.
    here = st.session_state if _EDITS in st.session_state else st.query_params
    text = str(here.get(_EDITS) or "")
    try:
        for edit in (edits := parse_edits(text)):
            weight_of(shared_glass(), edit.name, edit.index)
    except InterventionError as error:
        st.caption(f":material/info: {plain(str(error))} The model is shown as it was made.")
        return ""
    return format_edits(edits)


def changed_weights(shown: Pass, edits: str) -> None:
    """The panel: choose, set, see what is set, undo."""
    with st.expander("Change a weight", expanded=bool(edits)):
        name, index = _choose()
        now = weight_of(shown.model, name, index)
        made = weight_of(shared_glass(), name, index)
        left, right = st.columns([1.2, 1], vertical_alignment="bottom")
        value = left.number_input(
            f"New value (now {number(now)})",
            min_value=-LARGEST,
            max_value=LARGEST,
            value=float(now),
            step=1.0,
            key=f"weight_value_{name}_{'_'.join(map(str, index))}_{now}",
            help=f"As the model was made, this weight is {number(made)}.",
        )
        right.button(
            "Set this weight",
            key="weight_set",
            icon=":material/edit:",
            width="stretch",
            on_click=_set,
            args=(WeightEdit(name, index, float(value or 0.0)), made),
        )
        _list(parse_edits(edits))
        st.text_input(
            "Changed weights, as the address has them",
            key=_EDITS,
            bind="query-params",
            persist_state="page",
            max_chars=1000,
            placeholder="W_K[1,0,15,4]=30; b_Q[1,0,4]=4",
            help="Name, index and value. Block, head, row, column, counted from 0.",
        )


def _choose() -> tuple[str, tuple[int, ...]]:
    """One weight, by its table and the names of its row and column."""
    table = st.selectbox(
        "Table of weights",
        _TABLES,
        index=_TABLES.index("W_K.1"),
        key="weight_table",
        help="  \n".join(f"**{name}**: {what}" for name, what in _WHAT.items())
        + "  \nThe number after the point is the block.",
    )
    name, _, block = str(table).partition(".")
    layer = int(block) if block else None
    labels = weight_labels(name, layer)
    axes = ("Row (read from)", "Column (written to)") if len(labels) == 2 else ("Entry",)
    places: list[int] = []
    for slot, axis, choices in zip(st.columns(len(labels)), axes, labels, strict=True):
        chosen = slot.selectbox(axis, choices, key=f"weight_{axis[:3]}_{table}")
        places.append(choices.index(str(chosen)))
    before = () if layer is None else (layer, 0) if name in HEAD_WEIGHTS else (layer,)
    return name, (*before, *places)


def _set(edit: WeightEdit, made: float) -> None:
    others = [e for e in parse_edits(_text()) if (e.name, e.index) != (edit.name, edit.index)]
    # Set back to what it was made as, a weight is no longer a changed one.
    kept = others if edit.value == made else [*others, edit]
    st.session_state[_EDITS] = format_edits(kept)


def _text() -> str:
    try:
        return format_edits(parse_edits(st.session_state.get(_EDITS) or ""))
    except InterventionError:
        return ""


def _list(edits: tuple[WeightEdit, ...]) -> None:
    if not edits:
        st.caption(
            "No weight is changed. Yours alone is changed when you set one: every visitor "
            "has a copy."
        )
        return
    for i, edit in enumerate(edits):
        words, undo = st.columns([4, 1], vertical_alignment="center")
        made = weight_of(shared_glass(), edit.name, edit.index)
        words.markdown(plain(f"{_named(edit)}: {number(made)} → {number(edit.value)}"))
        undo.button(
            "Undo",
            key=f"weight_undo_{i}",
            type="tertiary",
            icon=":material/undo:",
            on_click=_set,
            args=(WeightEdit(edit.name, edit.index, made), made),
        )


def _named(edit: WeightEdit) -> str:
    """The weight in words: its table, and the names of its row and column."""
    layer = None if edit.name in GLOBAL_WEIGHTS else edit.index[0]
    labels = weight_labels(edit.name, layer)
    places = edit.index[-len(labels) :]
    names = [axis[place] for axis, place in zip(labels, places, strict=True)]
    where = "" if layer is None else f" of block {layer}"
    return f"{edit.name}{where}, {' to '.join(names)}"
