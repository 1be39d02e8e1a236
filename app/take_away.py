"""What a visitor takes along from any lab: the table, the code, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from app.errors import plain
from app.lens_cache import fingerprint

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel


def table_and_code(
    table: Callable[[], pd.DataFrame], code: Callable[[], str], *, file_name: str
) -> None:
    """The table as a file, and the script that makes the same numbers; each made when asked for."""
    st.download_button(
        "Table (CSV)",
        lambda: table().to_csv(index=False),
        file_name=file_name,
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
    shown = st.expander("Show the code", key="code_open", on_change="rerun")
    if shown.open:
        with shown:
            st.caption(
                "The numbers of this page, without the page. Run it where lens_core is installed."
            )
            st.code(code(), language="python")


def provenance(model: HookedModel, *facts: str) -> str:
    """One line: the model and its weights, then these facts, already safe to show."""
    weights = f"model {plain(model.cfg.name)} (weights {fingerprint(model)})"
    precision = str(model.cfg.dtype).removeprefix("torch.")
    return "Provenance: " + "; ".join([weights, precision, *facts]) + "."
