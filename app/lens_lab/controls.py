"""The controls: the three that matter first, the rest folded. Each explains itself, and is in the
URL under its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from app.answer_controls import start_token, target_and_foil
from app.components.lens_grid import Chosen
from app.lens_lab.lenses import lens_key
from app.lens_lab.settings import (
    COMPARE,
    LENSES,
    OTHER_LENS,
    OTHER_PROMPT,
    SITES,
    Settings,
)
from app.lesson.state import granted
from lens_core.plots import QUANTITIES

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens import LensResult

LAYER, POSITION, _SEEN = "layer", "position", "lens_seen"


def _explained(choices: Mapping[str, str]) -> str:
    return "  \n".join(f"**{name}**: {what}" for name, what in choices.items())


def main_controls(model: HookedModel) -> tuple[str, str]:
    """Lens and colour; the third that matters, the prompt, is the page's case file."""
    left, right = st.columns(2)
    lens = left.selectbox(
        "Lens",
        list(LENSES),
        key="lens",
        bind="query-params",
        help="What is done to a state before the model's own head reads it.  \n"
        + _explained(LENSES),
    )
    color = right.selectbox(
        "Colour shows",
        list(QUANTITIES),
        key="color",
        bind="query-params",
        help=_explained({q.key: q.explain for q in QUANTITIES.values()}),
    )
    st.caption(QUANTITIES[color].explain)
    return lens, color


def more_controls(model: HookedModel, prompt: str, lens: str, color: str) -> Settings:
    """Everything else that shapes the figures, but for the chosen cell."""
    with st.container(key="reading_controls"):
        site, bos = _reading(model)
        target, foil, follow = _words()
    with st.container(key="compare_controls"):
        compare, other_lens, other_prompt = _compare()
    blocks = 1
    if "last blocks" in (lens, other_lens if compare == OTHER_LENS else ""):
        blocks = _blocks(model)
    stride, flip, close = _drawing(model)
    return Settings(
        prompt=prompt,
        lens=lens,
        blocks=blocks,
        color=color,
        site=site,
        bos=bos,
        target=target,
        foil=foil,
        follow=follow,
        compare=compare,
        other_lens=other_lens,
        other_prompt=other_prompt,
        stride=stride,
        flip=flip,
        close=close,
    )


def _reading(model: HookedModel) -> tuple[str, bool]:
    site = st.selectbox(
        "Read from",
        list(SITES),
        key="site",
        bind="query-params",
        help=_explained(SITES),
    )
    return site, start_token(model)


def _words() -> tuple[str, str, str]:
    target, foil = target_and_foil(
        about="The token that ranks and log-probabilities are about",
        foil_for="when the colour shows *target minus foil*",
    )
    follow = st.text_input(
        "Follow these words too",
        key="follow",
        bind="query-params",
        max_chars=200,
        placeholder="Rome, London",
        help="Words, with commas between, whose probability the lines below show as well.",
    )
    return target, foil, follow or ""


def _compare() -> tuple[str, str, str]:
    compare = st.segmented_control(
        "Compare with",
        list(COMPARE),
        default=next(iter(COMPARE)),
        required=True,
        key="compare",
        bind="query-params",
        help=_explained(COMPARE),
    )
    other_lens, other_prompt = "tuned", ""
    if compare == OTHER_LENS:
        other_lens = st.selectbox(
            "Second lens",
            list(LENSES),
            index=list(LENSES).index("tuned"),
            key="other_lens",
            bind="query-params",
            persist_state="page",
            help="The same prompt is read through it too; a third grid shows the difference.",
        )
    elif compare == OTHER_PROMPT:
        other_prompt = st.text_input(
            "Second prompt",
            key="other_prompt",
            bind="query-params",
            max_chars=2000,
            persist_state="page",
            placeholder="the same sentence with one word changed",
            help="It is laid beside the first token by token, so both need equally many.",
        )
    return compare or next(iter(COMPARE)), other_lens, other_prompt or ""


def _blocks(model: HookedModel) -> int:
    return int(
        st.number_input(
            "Last blocks that decode",
            min_value=1,
            max_value=model.cfg.n_layers,
            value=1,
            key="blocks",
            bind="query-params",
            persist_state="page",
            help="The decoder is the model's own last so many blocks. A state from before them "
            "jumps there; the blocks between are skipped.",
        )
    )


def _drawing(model: HookedModel) -> tuple[int, bool, float]:
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    stride = left.number_input(
        "Every so many blocks",
        min_value=1,
        max_value=max(1, model.cfg.n_layers),
        value=1,
        key="stride",
        bind="query-params",
        help="Shows every second row, every third, ... The last one is always there.",
    )
    close = middle.number_input(
        "Close below (nats)",
        min_value=0.01,
        max_value=10.0,
        value=1.0,
        step=0.1,
        key="close",
        bind="query-params",
        help="The soft depth, *close* under the grid: the first block whose KL to the output is "
        "below this.",
    )
    flip = right.checkbox(
        "First block on top",
        key="flip",
        bind="query-params",
        help="As a text is read. Otherwise the text enters below and the answer comes out above.",
    )
    return int(stride), flip, float(close)


def choose_cell(lens: LensResult, prompt: str) -> Chosen:
    """The chosen cell, by two plain controls that the grid's clicks and keys set as well."""
    state, labels = st.session_state, list(lens.row_labels)
    last = len(lens.tokens) - 1
    if state.get(LAYER) not in labels:
        state.pop(LAYER, None)
    moved_on = state.get(_SEEN, prompt) != prompt and POSITION not in granted()
    if moved_on or not 0 <= state.get(POSITION, last) <= last:
        state[POSITION] = last
    state[_SEEN] = prompt
    left, right = st.columns(2)
    layer = left.selectbox(
        "Chosen row (block)",
        labels,
        index=len(labels) - 1,
        key=LAYER,
        bind="query-params",
        help="The same choice as a click on the grid.",
    )
    position = right.number_input(
        "Chosen token (position, from 0)",
        min_value=0,
        max_value=last,
        value=last,
        step=1,
        key=POSITION,
        bind="query-params",
        help="The same choice as a click on the grid.",
    )
    return Chosen(row=labels.index(layer), column=int(position))


def offered_lenses(model: HookedModel) -> list[str]:
    """The kinds of lens that are here for this model."""
    return [kind for kind in LENSES if lens_key(model, kind, 1) is not None]
