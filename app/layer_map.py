"""Numbers of layers by places as a map that is read by keyboard, its colour the size of an effect.

The labs of patching and of tracing draw with it: layers down, tokens or heads across.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from app.components.number_grid import NumberCell, NumberGrid, number_grid
from app.theme import is_dark
from lens_core.plots import palette

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LayerMap:
    """What is drawn.

    Attributes:
        title: of the saved picture; label: what a screen reader says of it.
        values: [row, column], written in the cells; NaN is drawn as nothing.
        effects: [row, column] from -1 to 1, the strength of the colour.
        rows, columns: what stands beside and above; repeated tokens are told apart by a number.
        note: what is said of a cell on hover and focus.
        chosen: row and column.
        digits: after the decimal point.
        texts: written in the cells in place of the values.
    """

    title: str
    label: str
    values: Values
    effects: Values
    rows: Sequence[str]
    columns: Sequence[str]
    note: Callable[[int, int], str]
    chosen: tuple[int, int]
    digits: int = 2
    texts: Sequence[Sequence[str]] | None = None


def layer_map(drawn: LayerMap, *, key: str, on_choose: Callable[[int, int], None]) -> None:
    """Draw it; a click, or Enter, calls ``on_choose(row, column)``."""
    n_rows, n_columns = drawn.values.shape
    colors = palette(dark=is_dark())
    grid = NumberGrid(
        title=drawn.title,
        label=f"{drawn.label}. Arrow keys move, Enter chooses a cell.",
        rows=drawn.rows,
        columns=drawn.columns,
        places=list(range(n_columns)),
        cells=[[_cell(drawn, row, column) for column in range(n_columns)] for row in range(n_rows)],
        row=drawn.chosen[0],
        place=drawn.chosen[1],
    )
    number_grid(
        grid,
        plus=colors.accent,
        minus=colors.categorical[1],
        key=key,
        on_choose=lambda: _take(key, n_rows, n_columns, on_choose),
    )


def _cell(drawn: LayerMap, row: int, column: int) -> NumberCell:
    value, effect = float(drawn.values[row, column]), float(drawn.effects[row, column])
    if not np.isfinite(value):
        return NumberCell(text="–", shade=0.0, note="no value here")
    shade = round(float(np.clip(np.nan_to_num(effect), -1, 1)), 3)
    text = written(value, drawn.digits) if drawn.texts is None else drawn.texts[row][column]
    return NumberCell(text=text, shade=shade, note=drawn.note(row, column))


def written(value: float, digits: int = 2) -> str:
    """A number to so many digits, nothing without a sign: minus 0.00 would be read as a loss."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _take(key: str, n_rows: int, n_columns: int, on_choose: Callable[[int, int], None]) -> None:
    sent: Any = st.session_state[key].chosen
    # What the browser sends is a visitor's text like any other.
    row, column = int(sent["row"]), int(sent["place"])
    if 0 <= row < n_rows and 0 <= column < n_columns:
        on_choose(row, column)
