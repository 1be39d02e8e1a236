"""The selection as controls: every click in a map sets these same ones, and the URL holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import streamlit as st

from app import answer_controls
from app.lesson.state import granted
from app.place_controls import one_of, position
from app.tracing_lab.settings import KINDS, Settings

if TYPE_CHECKING:
    from lens_core import HookedModel

KIND, LAYER, AT = "kind", "layer", "at"
_SEEN = "tracing_seen"
_SAME = "The same choice as a click in a map."


def fresh(prompt: str) -> None:
    """A position of another prompt is let go of. To be called before the controls are drawn."""
    state = st.session_state
    if state.get(_SEEN, prompt) != prompt and AT not in granted():
        state[AT] = None
    state[_SEEN] = prompt


def choose_cell(model: HookedModel, n_tokens: int, kinds: Sequence[str]) -> None:
    """Map (one of those that are drawn), layer and position."""
    state = st.session_state
    left, middle, right = st.columns(3)
    if state.get(KIND, "state") not in kinds:
        del state[KIND]
    left.selectbox(
        "Map",
        list(kinds),
        key=KIND,
        bind="query-params",
        persist_state="page",
        help="  \n".join(f"**{name}**: {KINDS[name]}" for name in kinds),
    )
    with middle:
        one_of("Layer (block)", LAYER, model.cfg.n_layers, help=_SAME)
    with right:
        said = f"Counted from 0. {_SAME}"
        position("Position", AT, n_tokens, empty="the subject's last", help=said)


def take_place(kind: str, layer: int, at: int) -> None:
    """The cell that a click chose."""
    state = st.session_state
    state[KIND], state[LAYER], state[AT] = kind, str(layer), at


def choice(label: str, options: Mapping[str, str], key: str) -> str:
    """A row of choices that begins as the settings do."""
    return answer_controls.choice(label, options, key, str(getattr(Settings(), key)))


def chosen(prompt: str, subject: str) -> Settings:
    """The settings as all controls have them; a control that was never drawn has its default."""
    return Settings.standing(st.session_state, prompt=prompt, subject=subject)
