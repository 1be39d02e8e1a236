"""The lens lab: controls, grid, and what is in the chosen cell. A click reruns this part alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.errors import plain, polite_errors
from app.lens_lab.cell import arithmetic, figures
from app.lens_lab.controls import choose_cell, main_controls, more_controls
from app.lens_lab.grids import grids
from app.lens_lab.reading import read
from app.lens_lab.request import request
from app.lens_lab.take_away import take_away
from app.lens_lab.trust import trust_panel
from app.models import chosen_model

if TYPE_CHECKING:
    from lens_core import HookedModel


def lens_lab(prompt: str) -> None:
    """Draw the lab for this prompt on the model that the visitor chose."""
    model = chosen_model()
    _lab(model, prompt)


@st.fragment
def _lab(model: HookedModel, prompt: str) -> None:
    with polite_errors():
        lens_kind, color = main_controls(model)
        notes, grid_slot, figures_slot = st.container(), st.container(), st.container()
        with st.expander("More settings"):
            settings = more_controls(model, prompt, lens_kind, color)
            wanted = request(model, settings)
            reading = read(model, wanted)
            cell = choose_cell(reading.lens, prompt)
        with notes:
            for note in wanted.notes:
                st.caption(f":material/info: {plain(note)}")
        with grid_slot:
            grids(model, reading, settings, wanted.aim, cell)
            trust_panel(model, wanted.first, reading.first)
        with figures_slot:
            figures(reading, cell)
        with st.expander("Show the arithmetic"):
            arithmetic(model, wanted.first, reading.lens, wanted.aim, cell)
        take_away(model, wanted, reading, settings, cell)
