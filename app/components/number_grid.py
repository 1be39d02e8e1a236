"""A small table of numbers, one row a token: shaded, read by keyboard, each cell with a note."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from app.components.edge import joined

_HTML = """
<div class="numbers" data-testid="number-grid" data-ready="false">
  <div class="scroller"><table></table></div>
  <div class="tip" role="tooltip" hidden></div>
  <div class="tools"></div>
</div>
"""

_number_grid = st.components.v2.component(
    "lens_lab.number_grid",
    html=_HTML,
    css=joined("shared.css", "number_grid.css"),
    js=joined("shared_base.js", "shared_picture.js", "number_grid_picture.js", "number_grid.js"),
)


@dataclass(frozen=True)
class NumberCell:
    """One number as it is drawn.

    `shade` is from -1 to 1, the strength of the colour; `note` is shown on hover and on focus;
    `was` is what stood there before a change, or None.
    """

    text: str
    shade: float
    note: str
    was: str | None = None


@dataclass(frozen=True)
class NumberGrid:
    """What is drawn: `columns` may leave some of the tensor's out, `places` are their numbers.

    With `ticked`, a grid of switches: a screen reader hears of these as selected, any number of
    them, and not of the cell at `row` and `place`, where the focus begins.
    """

    title: str
    label: str
    rows: Sequence[str]
    columns: Sequence[str]
    places: Sequence[int]
    cells: Sequence[Sequence[NumberCell]]
    row: int
    place: int
    ticked: Sequence[Sequence[bool]] | None = None


def number_grid(
    grid: NumberGrid, *, plus: str, minus: str, key: str, on_choose: Callable[[], None]
) -> None:
    """Draw it; when ``on_choose`` runs, ``st.session_state[key].chosen`` has `row` and `place`.

    ``plus`` and ``minus`` are the colours of positive and negative numbers.
    """
    data: dict[str, Any] = {**asdict(grid), "plus": plus, "minus": minus}
    _number_grid(key=key, data=data, on_chosen_change=on_choose)
