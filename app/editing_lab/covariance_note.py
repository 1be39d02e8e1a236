"""What the edit's key statistics rest on, and a warning where that is little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.errors import plain
from lens_core.editing import Edit
from lens_core.editing.covariance import default_covariance

if TYPE_CHECKING:
    from lens_core import HookedModel


def draw(model: HookedModel, edit: Edit) -> None:
    """One line of text; nothing for an edit that takes no statistics."""
    if not edit.layers or not getattr(edit.settings, "use_covariance", edit.method == "memit"):
        return
    found = default_covariance(model, edit.layers)  # kept in memory since the edit was made
    made = f"The statistics of keys are of {found.n_tokens:,} tokens ({plain(found.source)})"
    if found.approximate:
        st.warning(
            f"{made}, not of the text that the model was trained on. What the edit spares is only "
            "roughly what the model uses.",
            icon=":material/info:",
        )
    else:
        st.caption(f"{made}.")
