"""One number a head as a map of layers by heads, whose cells open the head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from app import answer_controls
from app.attention_lab.parts import head_label
from app.attention_lab.selection import take_cell
from app.attention_lab.settings import Settings
from app.components.edge import Edge
from app.components.number_grid import NumberCell, NumberGrid, number_grid
from app.theme import is_dark
from lens_core.plots import palette

Values = np.ndarray[Any, Any]


def head_map(
    values: Values,
    edge: Edge,
    *,
    key: str,
    label: str,
    top: float | None = None,
    digits: int = 2,
    note: Callable[[int, int], str] = lambda layer, head: "",
    opens: bool = True,
) -> None:
    """Draw [layer, head] numbers; a click chooses the head and opens its view.

    ``top`` is the number at full colour; without it the largest in size. NaN is drawn as nothing.
    """
    n_layers, n_heads = values.shape
    full = top or float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    colors = palette(dark=is_dark())
    grid = NumberGrid(
        title=label,
        label=f"{label}: layers by heads. Arrow keys move, Enter opens a head.",
        rows=[f"L{layer}" for layer in range(n_layers)],
        columns=[f"H{head}" for head in range(n_heads)],
        places=list(range(n_heads)),
        cells=[
            [_cell(layer, head, float(values[layer, head]), full, digits, note)
             for head in range(n_heads)]
            for layer in range(n_layers)
        ],
        row=edge["layer"],
        place=edge["head"],
    )  # fmt: skip
    number_grid(
        grid,
        plus=colors.accent,
        minus=colors.categorical[1],
        key=key,
        on_choose=lambda: take_cell(key, n_layers, n_heads, opens=opens),
    )


def _cell(
    layer: int,
    head: int,
    value: float,
    full: float,
    digits: int,
    note: Callable[[int, int], str],
) -> NumberCell:
    if np.isnan(value):
        return NumberCell(text="–", shade=0.0, note="no value")
    more = note(layer, head)
    said = f"{head_label(layer, head)}: {value:.{digits + 1}f}"
    return NumberCell(
        # What rounds to nothing stands back, and is no "-0.00".
        text="0" if round(value, digits) == 0 else f"{value:.{digits}f}",
        shade=round(value / full, 3),
        note=f"{said}. {more}" if more else said,
    )


def choice(label: str, options: Mapping[str, str], key: str) -> str:
    """A row of choices that begins as the settings do."""
    return answer_controls.choice(label, options, key, str(getattr(Settings(), key)))
