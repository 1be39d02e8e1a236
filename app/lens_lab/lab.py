"""The lens lab: controls, grid, and what is in the chosen cell."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from app.case_file import case_file, invitation, note_unknown_words
from app.errors import plain, polite_errors
from app.lens_lab.cell import arithmetic, figures
from app.lens_lab.controls import choose_cell, main_controls, more_controls
from app.lens_lab.grids import grids
from app.lens_lab.prompt_tokens import prompt_tokens
from app.lens_lab.reading import read
from app.lens_lab.request import request
from app.lens_lab.take_away import take_away
from app.lens_lab.training import train_section
from app.lens_lab.trust import trust_panel
from app.lesson.state import LabState
from app.models import chosen_model
from app.presets import PRESETS

if TYPE_CHECKING:
    from lens_core import HookedModel


def lens_column() -> LabState | None:
    """The case file and the lab below it; None while there is no prompt to look into."""
    prompt = case_file(PRESETS)
    if not prompt.strip():
        invitation(PRESETS)
        return None
    return lens_lab(prompt)


def lens_lab(prompt: str) -> LabState | None:
    """Draw the lab for this prompt on the visitor's model; None where that has failed.

    To be called within a fragment, which a click in the lab then runs again.
    """
    standing = None
    with polite_errors():
        standing = _lab(chosen_model(), prompt)
    return standing


def _lab(model: HookedModel, prompt: str) -> LabState:
    note_unknown_words(model, prompt)
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
        trust_panel(model, reading.first)
    with figures_slot:
        figures(wanted, reading, cell)
    # What is folded away is made when it is opened: a change of colour should not wait for it.
    steps = st.expander("Show the arithmetic", key="arithmetic_open", on_change="rerun")
    if steps.open:
        with steps:
            arithmetic(model, wanted.first, reading.lens, wanted.aim, cell)
    tokens = st.expander("The prompt's tokens", key="tokens_open", on_change="rerun")
    if tokens.open:
        with tokens:
            prompt_tokens(reading.lens, cell)
    take_away(model, wanted, reading, settings, cell)
    train_section(model)
    chosen = {"layer": reading.lens.row_labels[cell["row"]], "position": cell["column"]}
    return LabState(model, {**asdict(settings), **chosen})
