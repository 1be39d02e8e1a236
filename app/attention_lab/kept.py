"""Options that are set inside a component: kept for the visit, and in the URL like any control."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.attention_lab.settings import Settings
from app.components.head_grid import GridOptions
from app.components.head_view import HeadOptions

_START = Settings()
_NAMES = ("sort", "together", "grid_lines", "lines", "heads", "mass", "show_bos", "swap")


def restore() -> None:
    """Take the options from the URL where the visit has none, and show the visit's there."""
    for name in _NAMES:
        if name not in st.session_state and name in st.query_params:
            try:
                value = getattr(Settings.of({name: st.query_params[name]}), name)
            except ValueError:
                continue
            st.session_state[name] = value
        _in_address(name)


def keep(**values: Any) -> None:
    """Keep options; for callbacks of components."""
    for name, value in values.items():
        st.session_state[name] = value
        _in_address(name)


def _in_address(name: str) -> None:
    value = st.session_state.get(name)
    wanted = None if value in (None, getattr(_START, name)) else str(value)
    if wanted is None:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != wanted:
        st.query_params[name] = wanted


def grid_options(settings: Settings, orders: list[str]) -> GridOptions:
    """The grid's options; an order that is not there yet is the model's own."""
    order = settings.sort if settings.sort in orders else ""
    return GridOptions(order=order, block=settings.together, lines=settings.grid_lines)


def keep_grid(options: GridOptions) -> None:
    """Keep what was set in the grid."""
    keep(sort=options.order, together=options.block, grid_lines=options.lines)


def head_options(settings: Settings, n_heads: int) -> HeadOptions:
    """The head view's options."""
    numbers = [int(word) for word in settings.heads.split() if word.isdigit()]
    return HeadOptions(
        lines=settings.lines,
        mass=min(max(settings.mass, 0.01), 1.0),
        swap=settings.swap,
        bos=settings.show_bos,
        heads=tuple(sorted({n for n in numbers if n < n_heads})),
    )


def keep_head(options: HeadOptions) -> None:
    """Keep what was set in the head's view."""
    keep(
        lines=options.lines,
        mass=options.mass,
        swap=options.swap,
        show_bos=options.bos,
        heads=" ".join(str(head) for head in options.heads),
    )
