"""One step as a grid of numbers: what it is called, how it comes about, and its cells."""

from __future__ import annotations

import math

import streamlit as st
from torch import Tensor

from app.components.number_grid import NumberCell, NumberGrid, number_grid
from app.errors import plain
from app.theme import is_dark
from app.transformer_lab.passes import Pass
from app.transformer_lab.settings import Settings
from lens_core.glass import Step
from lens_core.glass.arithmetic import number
from lens_core.plots import palette, visible

KEY = "number_grid"
_SHARES = ("pattern", "probabilities")
DIGITS = 2
_NOTHING = 1e-6  # what float32's rounding leaves of a 0
_SEEN = 0.005  # a smaller change is not seen in so many digits


def step_heading(step: Step, shown: Pass) -> None:
    """The step's title, what it is for, its formula and its shape."""
    where = "" if step.layer is None else f"Block {step.layer}: "
    title = step.title if step.layer is None else step.title[0].lower() + step.title[1:]
    sizes = ", ".join(
        f"{name} {size}" for name, size in zip(step.axes, step.tensor.shape, strict=True)
    )
    st.markdown(f"**{where}{title}.** {step.meaning}")
    note = "" if step.tapped else " Computed from the tensors before it."
    st.caption(f"`{step.formula}`  \nShape: {plain(sizes)}.{note}")


def step_grid(shown: Pass, step: Step, settings: Settings, notes: list[list[str]]) -> None:
    """The step's numbers; a click chooses a cell."""
    grid = step.grid()
    places = [
        c
        for c in range(grid.shape[1])
        if settings.zeros
        or bool((grid[:, c].abs() > _NOTHING).any())
        or step.columns[c] == settings.column
    ]
    colors = palette(dark=is_dark())
    drawn = NumberGrid(
        title=f"{step.key} of {shown.model.cfg.name}",
        label=f"{step.key}: tokens by columns. Arrow keys move, Enter chooses.",
        rows=[f"{i} {visible(token)}" for i, token in enumerate(shown.steps.tokens)],
        columns=[visible(step.columns[c]) for c in places],
        places=places,
        cells=_cells(shown, step, places, notes),
        row=settings.row,
        place=step.columns.index(settings.column),
    )
    number_grid(
        drawn,
        plus=colors.accent,
        minus=colors.categorical[1],
        key=KEY,
        on_choose=lambda: _take(step, len(shown.steps.tokens)),
    )
    hidden = grid.shape[1] - len(places)
    if hidden:
        what = "column is" if hidden == 1 else "columns are"
        st.caption(f"One row a token. {hidden} more {what} 0 in every row and not drawn.")


def _take(step: Step, n_rows: int) -> None:
    chosen = st.session_state[KEY].chosen
    # What the browser sends is a visitor's text like any other.
    row, place = int(chosen["row"]), int(chosen["place"])
    if 0 <= row < n_rows and 0 <= place < len(step.columns):
        st.session_state["row"] = row
        st.session_state["column"] = step.columns[place]


def _cells(
    shown: Pass, step: Step, places: list[int], notes: list[list[str]]
) -> list[list[NumberCell]]:
    after, before = step.grid(), shown.before[step.key].grid()
    top = _largest(step, after)
    return [
        [
            NumberCell(
                text=number(value, DIGITS),
                shade=round(value / top, 3) if math.isfinite(value) else 0.0,
                note=notes[row][c],
                was=None if value == old or abs(value - old) < _SEEN else number(old, DIGITS + 1),
            )
            for c in places
            for value, old in [(float(after[row, c]), float(before[row, c]))]
        ]
        for row in range(after.shape[0])
    ]


def _largest(step: Step, grid: Tensor) -> float:
    """The number at full colour: 1 for shares of a whole, else the step's own largest."""
    if step.name in _SHARES:
        return 1.0
    if step.name == "tokens":
        return math.inf  # an id is a name, not an amount
    finite = [abs(v) for v in grid.flatten().tolist() if math.isfinite(v)]
    return max(finite, default=1.0) or 1.0
