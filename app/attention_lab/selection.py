"""The selection as controls: every click in a view sets these same ones, and the URL holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.attention_lab.settings import HEAD, Settings
from app.components.edge import Edge, read_edge
from app.lesson.state import granted
from app.place_controls import one_of, position
from lens_core.attention import AttentionResult

if TYPE_CHECKING:
    from lens_core import HookedModel

LAYER, HEAD_KEY, DEST, SRC, POSITION, VIEW = "layer", "head", "dest", "src", "position", "view"
_SEEN = "attention_seen"
_SAME = "The same choice as a click on a head in any view."


def fresh(prompt: str) -> None:
    """Positions of another prompt are let go of. To be called before the controls are drawn."""
    state = st.session_state
    if state.get(_SEEN, prompt) != prompt:
        for key in {DEST, SRC, POSITION} - set(granted()):
            state[key] = None
    state[_SEEN] = prompt


def choose_head(model: HookedModel) -> None:
    """Layer and head."""
    left, right = st.columns(2)
    with left:
        one_of("Layer (block)", LAYER, model.cfg.n_layers, help=_SAME)
    with right:
        one_of("Head", HEAD_KEY, model.cfg.n_heads, help=_SAME)


def choose_edge(n_tokens: int) -> None:
    """Destination, source, and where the answer is read; empty ones choose themselves."""
    left, middle, right = st.columns(3)
    with left:
        _place("Destination (looks)", DEST, n_tokens, "the last", "The token that looks.")
    with middle:
        _place("Source (looked at)", SRC, n_tokens, "the strongest", "The token that is looked at.")
    with right:
        _place(
            "Answer read at",
            POSITION,
            n_tokens,
            "the last",
            "The token after which the model's answer is read.",
        )


def _place(label: str, key: str, n_tokens: int, empty: str, what: str) -> None:
    said = f"{what} A position, counted from 0; empty: {empty}."
    position(label, key, n_tokens, empty=empty, help=said)


def take_edge(component: str, attention: AttentionResult) -> None:
    """The head and the edge that a click in a head's view chose."""
    edge = _sent(component, attention)
    if edge is not None:
        take_head(edge["layer"], edge["head"], opens=False)
        st.session_state[DEST], st.session_state[SRC] = edge["dest"], edge["src"]


def take_thumbnail(component: str, attention: AttentionResult, *, opens: bool = False) -> None:
    """The head that a click in the grid chose; ``opens``: its view comes next.

    The edge stays as it was: without a source, each head shows its own strongest.
    """
    edge = _sent(component, attention)
    if edge is not None:
        take_head(edge["layer"], edge["head"], opens=opens)


def _sent(component: str, attention: AttentionResult) -> Edge | None:
    sent = st.session_state[component].chosen
    return read_edge(sent, attention.n_layers, attention.n_heads, len(attention.tokens))


def take_cell(component: str, n_layers: int, n_heads: int, *, opens: bool = True) -> None:
    """What a click in a map of layers by heads chose; the head's view comes next."""
    sent: Any = st.session_state[component].chosen
    # What the browser sends is a visitor's text like any other.
    layer, head = int(sent["row"]), int(sent["place"])
    if 0 <= layer < n_layers and 0 <= head < n_heads:
        take_head(layer, head, opens=opens)


def take_head(layer: int, head: int, *, opens: bool) -> None:
    """Choose a head, and open its view if asked to."""
    st.session_state[LAYER], st.session_state[HEAD_KEY] = str(layer), str(head)
    if opens:
        st.session_state[VIEW] = HEAD


def go_to(view: str, **values: Any) -> None:
    """Open a view with some controls set; for buttons."""
    st.session_state[VIEW] = view
    for key, value in values.items():
        st.session_state[key] = value


def chosen(prompt: str, first_view: str) -> Settings:
    """The settings as all controls have them; a control that was never drawn has its default."""
    return Settings.standing({VIEW: first_view, **st.session_state}, prompt=prompt)
