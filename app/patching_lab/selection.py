"""The selection as controls: every click in a map sets these same ones, and the URL holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import answer_controls
from app.lesson.state import granted
from app.patching_lab.settings import VIEWS, Settings

if TYPE_CHECKING:
    from lens_core import HookedModel

LAYER, HEAD, AT, VIEW = "layer", "head", "at", "view"
_SEEN, _PAGE = "patching_seen", "patching_page"


def fresh(clean: str, corrupted: str) -> None:
    """A position of other prompts is let go of. To be called before the controls are drawn."""
    state = st.session_state
    here = (clean, corrupted)
    if state.get(_SEEN, here) != here and AT not in granted():
        state[AT] = None
    state[_SEEN] = here


def choose_view(first_view: str) -> str:
    """The view; a page of this lab begins with its own, whatever another page has left."""
    state = st.session_state
    if state.setdefault(_PAGE, first_view) != first_view:
        state[_PAGE] = first_view
        state.pop(VIEW, None)
    return answer_controls.choice("View", VIEWS, VIEW, first_view)


def choose_cell(model: HookedModel, n_tokens: int, *, heads: bool) -> None:
    """Layer, position and, if asked for, head."""
    columns = st.columns(3 if heads else 2)
    with columns[0]:
        _one_of("Layer (block)", LAYER, model.cfg.n_layers)
    with columns[1]:
        _position(n_tokens)
    if heads:
        with columns[2]:
            _one_of("Head", HEAD, model.cfg.n_heads)


def _one_of(label: str, key: str, count: int) -> None:
    options, state = [str(n) for n in range(count)], st.session_state
    if isinstance(state.get(key), int):
        state[key] = str(state[key])  # a lesson gives numbers
    if key in state and state[key] not in options:
        del state[key]  # the lens lab has an embedding row, and models differ in size
    st.selectbox(
        label,
        options,
        key=key,
        bind="query-params",
        help="The same choice as a click in the map.",
    )


def _position(n_tokens: int) -> None:
    state = st.session_state
    if isinstance(state.get(AT), int) and state[AT] < 0:
        state[AT] += n_tokens  # lessons count from the end
    if state.get(AT) is not None and not 0 <= state[AT] < n_tokens:
        state[AT] = None
    st.number_input(
        "Patched position",
        min_value=0,
        max_value=n_tokens - 1,
        value=None,
        step=1,
        key=AT,
        bind="query-params",
        placeholder="the first that differs",
        help="Counted from 0; the same choice as a click in the map.",
    )


def take_position(at: int) -> None:
    """The position that a click chose."""
    st.session_state[AT] = at


def take_place(layer: int, at: int) -> None:
    """The layer and position that a click chose."""
    st.session_state[LAYER], st.session_state[AT] = str(layer), at


def take_head(layer: int, head: int) -> None:
    """The head that a click chose."""
    st.session_state[LAYER], st.session_state[HEAD] = str(layer), str(head)


def choice(label: str, options: Mapping[str, str], key: str) -> str:
    """A row of choices that begins as the settings do."""
    return answer_controls.choice(label, options, key, str(getattr(Settings(), key)))


def chosen(clean: str, corrupted: str, view: str) -> Settings:
    """The settings as all controls have them; a control that was never drawn has its default."""
    state = st.session_state
    standing: dict[str, Any] = {}
    for name in Settings.__dataclass_fields__:
        if state.get(name) is None:
            continue
        try:
            Settings.of({name: state[name]})
        except ValueError:
            continue
        standing[name] = state[name]
    return Settings.of({**standing, "prompt": clean, "corrupted": corrupted, "view": view})
