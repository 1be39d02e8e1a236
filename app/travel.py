"""What travels from lab to lab within a visit: the prompt, and what is chosen in it."""

from __future__ import annotations

from typing import Any

import streamlit as st

# What is chosen in a lab, under the names that every lab has for it.
SELECTION = ("layer", "head", "dest", "src", "position", "target", "foil")
_KEPT, _PAGE = "travel_kept", "travel_page"


def remember() -> None:
    """Keep prompt and selection as they stand; to be called whenever a lab has been drawn.

    The links of the sidebar are older than this: a click in a lab draws the lab alone anew.
    """
    kept = st.session_state.setdefault(_KEPT, {})
    for name in ("prompt", *SELECTION):
        if name in st.session_state:
            kept[name] = st.session_state[name]


def remembered() -> dict[str, str]:
    """What was chosen in the lab that was drawn last, as the URL has it."""
    kept = st.session_state.get(_KEPT, {})
    return {name: str(value) for name, value in kept.items() if value not in (None, "")}


def here() -> str:
    """The page in view, as the address names it; empty where a lab is drawn without its page."""
    return str(st.session_state.get(_PAGE, ""))


def brought_along(page: str) -> dict[str, Any]:
    """On the way from one page of a visit to another: the controls as they were chosen."""
    state = st.session_state
    if state.setdefault(_PAGE, page) == page:
        return {}
    state[_PAGE] = page
    return {name: value for name, value in state.get(_KEPT, {}).items() if value is not None}
