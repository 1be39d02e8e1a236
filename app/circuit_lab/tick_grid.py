"""The grid in which heads are kept or knocked out: layers down, heads across."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from app.circuit_lab.chosen import toggle
from app.circuit_lab.prepared import Prepared
from app.circuit_lab.settings import CELLS
from app.components.number_grid import NumberCell, NumberGrid, number_grid
from app.layer_map import written
from app.theme import is_dark
from lens_core.circuits import Node, node_name
from lens_core.plots import palette

if TYPE_CHECKING:
    from collections.abc import Collection

KEY, _LAST = "circuit_grid", "circuit_last"
_LOOKS = {
    "looks at the right name": "io",
    "looks at the actor": "s1",
    "looks at the actor again": "s2",
}


def draw(ready: Prepared, kept: Collection[Node], cells: str, *, all_mlps: bool) -> None:
    """A click, or Enter, keeps a head or knocks it out."""
    cfg = ready.model.cfg
    width = cfg.n_heads + (not all_mlps)
    nodes: list[list[Node]] = [
        [(layer, head if head < cfg.n_heads else None) for head in range(width)]
        for layer in range(cfg.n_layers)
    ]
    cells = cells if cells in CELLS else next(iter(CELLS))
    values = cell_values(ready, cells)
    largest = 1.0 if cells in _LOOKS else float(np.abs(values).max()) or 1.0
    colors = palette(dark=is_dark())
    row, place = st.session_state.get(_LAST, (0, 0))
    grid = NumberGrid(
        title=f"Heads kept in {ready.model.cfg.name}: {cells}",
        label="Layers by heads: what is kept and what is knocked out. Arrow keys move, Enter keeps "
        "a head or knocks it out.",
        rows=[f"L{layer}" for layer in range(cfg.n_layers)],
        columns=[f"H{h}" if h < cfg.n_heads else "MLP" for h in range(width)],
        places=list(range(width)),
        cells=[[_cell(ready, node, kept, values, largest) for node in line] for line in nodes],
        row=min(row, cfg.n_layers - 1),
        place=min(place, width - 1),
        ticked=[[node in kept for node in line] for line in nodes],
    )
    number_grid(
        grid,
        plus=colors.accent,
        minus=colors.categorical[1],
        key=KEY,
        on_choose=lambda: _take(ready, nodes, all_mlps=all_mlps),
    )


def cell_values(ready: Prepared, cells: str) -> np.ndarray[Any, Any]:
    """[layer, head], what the cells say."""
    found, cfg = ready.evidence, ready.model.cfg
    if cells in _LOOKS:
        values = found.attention[_LOOKS[cells]]
    else:
        values = found.answer if cells == "for the right name" else found.foil
    return np.asarray(values).reshape(cfg.n_layers, cfg.n_heads)


def _cell(
    ready: Prepared,
    node: Node,
    kept: Collection[Node],
    values: np.ndarray[Any, Any],
    largest: float,
) -> NumberCell:
    layer, head = node
    mark = "✓ " if node in kept else ""
    state = "kept" if node in kept else "knocked out"
    if head is None:
        return NumberCell(text=f"{mark}·", shade=0.0, note=f"{node_name(node)}: {state}")
    value = float(values[layer, head])
    found, i = ready.evidence, layer * ready.model.cfg.n_heads + head
    looks = ", ".join(f"{name} {found.attention[at][i]:.2f}" for name, at in _NOTED.items())
    note = (
        f"{node_name(node)}: {state}\nlooks from the last token at {looks}\nwrites "
        f"{found.answer[i]:+.2f} for the right name, {found.foil[i]:+.2f} for the actor"
    )
    digits = 1 if largest > 1 else 2
    return NumberCell(text=mark + written(value, digits), shade=value / largest, note=note)


_NOTED = {"the right name": "io", "the actor": "s1", "the actor again": "s2"}


def _take(ready: Prepared, nodes: list[list[Node]], *, all_mlps: bool) -> None:
    sent: Any = st.session_state[KEY].chosen
    # What the browser sends is a visitor's text like any other.
    row, place = int(sent["row"]), int(sent["place"])
    if 0 <= row < len(nodes) and 0 <= place < len(nodes[row]):
        st.session_state[_LAST] = (row, place)
        toggle(ready.model, nodes[row][place], all_mlps=all_mlps)
