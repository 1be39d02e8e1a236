"""What a visitor takes along: the table and the code. Link and pictures are under the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.components.lens_grid import Chosen
from app.lens_lab.reading import Reading
from app.lens_lab.request import Request
from app.lens_lab.settings import Settings
from app.snippets import lens_code

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel


def take_away(
    model: HookedModel, wanted: Request, reading: Reading, settings: Settings, cell: Chosen
) -> None:
    """The table of every cell, and the script that makes the same numbers."""
    st.download_button(
        "Table (CSV)",
        lambda: _table(reading).to_csv(index=False),
        file_name="lens.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
    code = st.expander("Show the code", key="code_open", on_change="rerun")
    if not code.open:
        return
    with code:
        st.caption(
            "The numbers of this page, without the page. Run it where lens_core is installed."
        )
        st.code(lens_code(model, wanted, settings, reading, cell), language="python")


def _table(reading: Reading) -> pd.DataFrame:
    import pandas as pd

    frame = reading.lens.to_frame()
    if reading.second is None:
        return frame
    return pd.concat([frame.assign(reading=1), reading.second.lens.to_frame().assign(reading=2)])
