"""One grid, or two and their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.components.lens_grid import Chosen, GridView, lens_grid
from app.errors import plain
from app.lens_lab.controls import LAYER, POSITION
from app.lens_lab.reading import Reading, shown_rows
from app.lens_lab.settings import OTHER_LENS, Settings
from app.lens_lab.words import after, column_line, token
from lens_core.lens import LensResult
from lens_core.plots import QUANTITIES, Aim

if TYPE_CHECKING:
    from lens_core import HookedModel


def grids(model: HookedModel, reading: Reading, settings: Settings, aim: Aim, cell: Chosen) -> None:
    """Draw what was read, with the chosen column read out below."""
    lens = reading.lens

    def draw(result: LensResult, title: str, key: str, first: LensResult | None = None) -> None:
        view = GridView(
            lens=result,
            quantity=QUANTITIES[settings.color],
            prompt=settings.prompt,
            title=title,
            has_bos=model.bos_id == int(result.token_ids[0]),
            rows=shown_rows(result, settings.stride),
            aim=aim,
            flip=settings.flip,
            soft_nats=settings.close,
            first=first,
            main=key == "lens_grid",
        )
        lens_grid(view, selected=cell, key=key, on_choose=lambda: _take_cell(lens, key))

    draw(lens, _title(lens), "lens_grid")
    st.markdown(column_line(lens, cell["column"], settings.close))
    if reading.refused is not None:
        st.warning(plain(reading.refused), icon=":material/info:")
    if reading.second is None:
        return
    second = reading.second.lens
    by_lens = settings.compare == OTHER_LENS
    draw(second, f"Second: {_title(second) if by_lens else 'the other prompt'}", "lens_grid_second")
    st.markdown(column_line(second, cell["column"], settings.close))
    draw(second, "The difference, second minus first", "lens_grid_difference", first=lens)
    st.markdown(_difference_line(reading, cell))


def _title(lens: LensResult) -> str:
    return f"{lens.lens_name[:1].upper()}{lens.lens_name[1:]} lens of {lens.model_name}"


def _difference_line(reading: Reading, cell: Chosen) -> str:
    assert reading.second is not None
    assert reading.comparison is not None
    lens, second, both = reading.lens, reading.second.lens, reading.comparison
    row, column = cell["row"], cell["column"]
    agree = float((lens.top_ids[:, :, 0] == second.top_ids[:, :, 0]).mean())
    guesses = [token(r.texts[int(r.top_ids[row, column, 0])]) for r in (lens, second)]
    place = both.row_layers_a.index(lens.row_layers[row])
    apart = float(both.js_nats[place, column])
    return (
        f"The best guesses agree in {agree:.0%} of the cells. In the chosen one, "
        f"{after(lens.row_layers[row], lens.site)}, the first says **{guesses[0]}** and the second "
        f"**{guesses[1]}**; the two distributions are {apart:.2f} nats of Jensen-Shannon "
        "divergence apart (0.69 is the most)."
    )


def _take_cell(lens: LensResult, key: str) -> None:
    chosen = st.session_state[key].chosen
    # What the browser sends is a visitor's text like any other.
    row, column = int(chosen["row"]), int(chosen["column"])
    if 0 <= row < len(lens.row_labels) and 0 <= column < len(lens.tokens):
        st.session_state[LAYER] = lens.row_labels[row]
        st.session_state[POSITION] = column
