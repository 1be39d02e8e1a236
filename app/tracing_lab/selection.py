"""The selection as controls: every click in a map sets these same ones, and the URL holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import answer_controls
from app.lesson.state import granted
from app.tracing_lab.settings import KINDS, Settings

if TYPE_CHECKING:
    from lens_core import HookedModel

KIND, LAYER, AT = "kind", "layer", "at"
_SEEN = "tracing_seen"


def fresh(prompt: str) -> None:
    """A position of another prompt is let go of. To be called before the controls are drawn."""
    state = st.session_state
    if state.get(_SEEN, prompt) != prompt and AT not in granted():
        state[AT] = None
    state[_SEEN] = prompt


def choose_cell(model: HookedModel, n_tokens: int) -> None:
    """Map, layer and position."""
    state = st.session_state
    left, middle, right = st.columns(3)
    if state.get(KIND, "state") not in KINDS:
        del state[KIND]
    left.selectbox(
        "Map",
        list(KINDS),
        key=KIND,
        bind="query-params",
        persist_state="page",
        help="  \n".join(f"**{name}**: {what}" for name, what in KINDS.items()),
    )
    options = [str(n) for n in range(model.cfg.n_layers)]
    if isinstance(state.get(LAYER), int):
        state[LAYER] = str(state[LAYER])  # a lesson gives numbers
    if LAYER in state and state[LAYER] not in options:
        del state[LAYER]  # the lens lab has an embedding row, and models differ in size
    middle.selectbox(
        "Layer (block)",
        options,
        key=LAYER,
        bind="query-params",
        persist_state="page",
        help="The same choice as a click in a map.",
    )
    if isinstance(state.get(AT), int) and state[AT] < 0:
        state[AT] += n_tokens  # lessons count from the end
    if state.get(AT) is not None and not 0 <= state[AT] < n_tokens:
        state[AT] = None
    right.number_input(
        "Position",
        min_value=0,
        max_value=n_tokens - 1,
        value=None,
        step=1,
        key=AT,
        bind="query-params",
        placeholder="the subject's last",
        help="Counted from 0; the same choice as a click in a map.",
    )


def take_place(kind: str, layer: int, at: int) -> None:
    """The cell that a click chose."""
    state = st.session_state
    state[KIND], state[LAYER], state[AT] = kind, str(layer), at


def choice(label: str, options: Mapping[str, str], key: str) -> str:
    """A row of choices that begins as the settings do."""
    return answer_controls.choice(label, options, key, str(getattr(Settings(), key)))


def chosen(prompt: str, subject: str) -> Settings:
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
    return Settings.of({**standing, "prompt": prompt, "subject": subject})
