"""The selection as controls: every click in a map sets these same ones, and the URL holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import streamlit as st

from app import answer_controls
from app.lesson.state import granted
from app.patching_lab.settings import LOGITS, MLP, OVER, VIEWS, Settings
from app.place_controls import one_of, position

if TYPE_CHECKING:
    from lens_core import HookedModel

LAYER, HEAD, AT, VIEW, SENDER = "layer", "head", "at", "view", "sender"
_SEEN, _PAGE = "patching_seen", "patching_page"
_SAME = "The same choice as a click in the map."


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
        one_of("Layer (block)", LAYER, model.cfg.n_layers, help=_SAME)
    with columns[1]:
        _choose_position(n_tokens)
    if heads:
        with columns[2]:
            one_of("Head", HEAD, model.cfg.n_heads, help=_SAME)


def choose_reader(model: HookedModel) -> None:
    """The head or MLP whose wires are shown; the logits are one and need no choice."""
    reads = st.session_state.get("reads") or LOGITS
    if reads == LOGITS:
        return
    left, right = st.columns(2)
    with left:
        one_of("Its layer (block)", LAYER, model.cfg.n_layers, help="The layer of who reads.")
    if reads != MLP:
        with right:
            one_of("Its head", HEAD, model.cfg.n_heads, help="The head that reads.")


def choose_wire(n_tokens: int, senders: Sequence[str]) -> None:
    """Where the senders are patched, and whose wire is looked at closely."""
    choice("Senders patched at", OVER, "over")
    left, right = st.columns(2)
    with left:
        if st.session_state.get(SENDER) not in senders:
            st.session_state.pop(SENDER, None)
        st.selectbox(
            "Sender",
            senders,
            index=None,
            key=SENDER,
            bind="query-params",
            placeholder="the strongest",
            help=_SAME,
        )
    with right:
        _choose_position(n_tokens)


def _choose_position(n_tokens: int) -> None:
    position(
        "Patched position",
        AT,
        n_tokens,
        empty="the first that differs",
        help=f"Counted from 0. {_SAME}",
    )


def take_sender(name: str) -> None:
    """The sender that a click chose."""
    st.session_state[SENDER] = name


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
    return Settings.standing(st.session_state, prompt=clean, corrupted=corrupted, view=view)
