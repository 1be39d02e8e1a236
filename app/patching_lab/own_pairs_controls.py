"""Where a visitor's own pairs come from: a box to type in, which a CSV file fills."""

from __future__ import annotations

import streamlit as st

from app.errors import plain
from app.patching_lab.pairs_file import MOST_BYTES, MOST_ROWS, TEMPLATE, decoded
from lens_core.patching import PatchingError

OWN, _FILE, _REFUSED = "own_pairs", "own_pairs_file", "own_pairs_refused"


def type_or_upload() -> None:
    """The file, its template, and the box; what is in the box is what runs."""
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    left.file_uploader(
        f"A CSV file of at most {MOST_ROWS} pairs",
        type=["csv", "tsv", "txt"],
        key=_FILE,
        on_change=_take_file,
        help="Columns clean and corrupted, and, if you like, target and foil: one word each. "
        "Without a target it is what the model says after the clean prompt, without a foil what it "
        "says after the corrupted one.",
    )
    right.download_button(
        "Template (CSV)",
        TEMPLATE,
        file_name="pairs.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
    refused = st.session_state.get(_REFUSED)
    if refused:
        st.error(plain(refused), icon=":material/info:")
    st.session_state.setdefault(OWN, TEMPLATE)
    st.text_area(
        "Your pairs, one a row: clean, corrupted, target, foil",
        key=OWN,
        persist_state="page",
        max_chars=MOST_BYTES,
        height=160,
        help='As a CSV file has them; a text that holds a comma stands in "quotes". A file that '
        "you upload is put here, and can be changed here. All prompts have equally many tokens.",
    )


def _take_file() -> None:
    state = st.session_state
    file, state[_REFUSED] = state[_FILE], None
    if file is None:
        return
    try:
        state[OWN] = decoded(file.getvalue())
    except PatchingError as error:
        state[_REFUSED] = str(error)
