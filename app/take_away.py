"""What a visitor takes along from any lab: the table, the code, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from app.editing_lab.ledger import with_edits
from app.errors import plain
from app.lens_cache import fingerprint
from app.models import chosen_model

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel


def table_and_code(
    table: Callable[[], pd.DataFrame],
    code: Callable[[], str],
    *,
    file_name: str,
    missing: str = "",
) -> None:
    """The table as a file, and the script that makes the same numbers; each made when asked for.

    ``missing`` says why there is no table yet, if there is none.
    """
    st.download_button(
        "Table (CSV)",
        lambda: no_formulas(table()).to_csv(index=False),
        file_name=file_name,
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
        disabled=bool(missing),
        help=missing or None,
    )
    shown = st.expander("Show the code", key="code_open", on_change="rerun")
    if shown.open:
        with shown:
            st.caption(
                "The numbers of this page, without the page. Run it where lens_core is installed."
            )
            st.code(with_edits(code(), chosen_model()), language="python")


def no_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before every text that a spreadsheet would compute.

    Tokens and prompts are whatever somebody typed; a lone sign is a token and no formula.
    """
    made = frame.copy()
    for name in made.columns:
        made[name] = [_no_formula(cell) if isinstance(cell, str) else cell for cell in made[name]]
    return made


def _no_formula(text: str) -> str:
    return f"'{text}" if len(text) > 1 and text[0] in "=+-@\t\r" else text


def provenance(model: HookedModel, *facts: str) -> str:
    """One line: the model and its weights, then these facts, already safe to show."""
    weights = f"model {plain(model.cfg.name)} (weights {fingerprint(model)})"
    precision = str(model.cfg.dtype).removeprefix("torch.")
    return "Provenance: " + "; ".join([weights, precision, *facts]) + "."
