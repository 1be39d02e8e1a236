"""The lab: the prompt, the selection, and one view of it at a time; only that one computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.answer_controls import start_token, target_and_foil
from app.attention_lab import (
    answer_view,
    block_view,
    grid_view,
    head_view,
    kept,
    scores_view,
    selection,
    snippets,
    tables,
)
from app.attention_lab.asked import Scene, scene_of
from app.attention_lab.settings import ANSWER, BLOCK, GRID, HEAD, SCORES, VIEWS
from app.case_file import case_file, invitation, note_unknown_words
from app.errors import plain, polite_errors
from app.lens_cache import tokens_of
from app.lesson.state import LabState
from app.models import chosen_model
from app.presets import Preset
from app.take_away import provenance, table_and_code

if TYPE_CHECKING:
    from lens_core import HookedModel


_PAGE = "attention_page"


@dataclass(frozen=True)
class View:
    """One view: its own controls, those that are folded away, and its drawing."""

    controls: Callable[[], None]
    draw: Callable[[Scene], None]
    more: Callable[[], None] = lambda: None


_VIEWS = {
    GRID: View(grid_view.controls, grid_view.draw, grid_view.more_controls),
    HEAD: View(head_view.controls, head_view.draw, head_view.more_controls),
    SCORES: View(scores_view.controls, scores_view.draw, scores_view.more_controls),
    ANSWER: View(answer_view.controls, answer_view.draw),
    BLOCK: View(block_view.controls, block_view.draw, scores_view.more_controls),
}


def attention_column(presets: Sequence[Preset], *, first_view: str) -> LabState | None:
    """The case file and the lab below it, ``first_view`` first; None while there is no prompt.

    To be called within a fragment, which a click in the lab then runs again.
    """
    prompt = case_file(presets)
    if not prompt.strip():
        invitation(presets)
        return None
    standing = None
    with polite_errors():
        standing = _lab(chosen_model(), prompt, first_view)
    return standing


def _lab(model: HookedModel, prompt: str, first_view: str) -> LabState:
    note_unknown_words(model, prompt)
    kept.restore()
    view = _choose_view(first_view)
    selection.choose_head(model)
    _VIEWS[view].controls()
    asks_for_answer = view in (ANSWER, BLOCK)
    if asks_for_answer:
        _choose_answer()
    notes, body = st.container(), st.container()
    with st.expander("More settings"):
        bos = start_token(model)
        token_ids = tokens_of(model, prompt, bos)
        selection.fresh(prompt)
        selection.choose_edge(len(token_ids))
        if not asks_for_answer:
            _choose_answer()
        _VIEWS[view].more()
    settings = selection.chosen(prompt, first_view)
    scene = scene_of(model, settings, token_ids)
    with notes:
        for note in scene.notes:
            st.caption(f":material/info: {plain(note)}")
    with body, polite_errors():
        _VIEWS[view].draw(scene)
    st.caption(
        provenance(
            model,
            f"{len(token_ids)} tokens",
            f"{scene.attention.n_layers} layers x {scene.attention.n_heads} heads",
            f"patterns read in {scene.read.took_ms:.0f} ms",
            f"seed {settings.seed} where something is drawn",
        )
    )
    with polite_errors():
        table_and_code(
            lambda: tables.table(scene),
            lambda: snippets.attention_code(scene),
            file_name="attention.csv",
        )
    chosen = {"layer": scene.edge["layer"], "head": scene.edge["head"]}
    places = {"dest": scene.edge["dest"], "src": scene.edge["src"], "position": scene.position}
    return LabState(model, {**asdict(settings), **chosen, **places})


def _choose_answer() -> None:
    target_and_foil(
        about="The token whose logit is asked about",
        foil_for="when the answer is a difference",
    )


def _choose_view(first_view: str) -> str:
    order = [first_view, *(view for view in VIEWS if view != first_view)]
    if st.session_state.setdefault(_PAGE, first_view) != first_view:
        # The other page of this lab has left its view; this one begins with its own.
        st.session_state[_PAGE] = first_view
        st.session_state.pop(selection.VIEW, None)
    if st.session_state.get(selection.VIEW, first_view) not in order:
        del st.session_state[selection.VIEW]
    view = st.segmented_control(
        "View",
        order,
        default=first_view,
        required=True,
        key=selection.VIEW,
        bind="query-params",
        persist_state="page",
        help="  \n".join(f"**{name}**: {what}" for name, what in VIEWS.items()),
    )
    return view or first_view
