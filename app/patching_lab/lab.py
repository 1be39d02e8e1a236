"""The lab: two prompts, the selection, and one view of it at a time; only that one computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.answer_controls import start_token, target_and_foil
from app.case_file import note_unknown_words
from app.errors import plain, polite_errors
from app.lesson.state import LabState
from app.models import chosen_model
from app.patching_lab import (
    attribution_view,
    heads_view,
    many_view,
    places_view,
    selection,
    snippets,
    tables,
    wires_view,
)
from app.patching_lab.asked import Scene, scene_of
from app.patching_lab.pairs import invitation, two_prompts
from app.patching_lab.selection import choice
from app.patching_lab.settings import (
    ALIGN,
    ATTRIBUTION,
    DIRECTIONS,
    HEADS,
    MANY,
    METRICS,
    PATCH_WITH,
    PLACES,
    SCALES,
    WIRES,
    Settings,
)
from app.patching_lab.strip import token_strip
from app.take_away import provenance, table_and_code

if TYPE_CHECKING:
    from lens_core import HookedModel


@dataclass(frozen=True)
class View:
    """One view: its own controls, given the model's sites, and its drawing."""

    controls: Callable[[list[str]], None]
    draw: Callable[[Scene], None]


_VIEWS = {
    PLACES: View(places_view.controls, places_view.draw),
    ATTRIBUTION: View(attribution_view.controls, attribution_view.draw),
    HEADS: View(heads_view.controls, heads_view.draw),
    WIRES: View(wires_view.controls, wires_view.draw),
    MANY: View(many_view.controls, many_view.draw),
}


def patching_column(first_view: str = PLACES) -> LabState | None:
    """The two prompts and the lab below them, ``first_view`` first; None while a prompt is missing.

    To be called within a fragment, which a click in the lab then runs again.
    """
    clean, corrupted = two_prompts()
    if not clean.strip() or not corrupted.strip():
        invitation()
        return None
    standing = None
    with polite_errors():
        standing = _lab(chosen_model(), clean, corrupted, first_view)
    return standing


def _lab(model: HookedModel, clean: str, corrupted: str, first_view: str) -> LabState:
    note_unknown_words(model, clean)
    selection.fresh(clean, corrupted)
    view = selection.choose_view(first_view)
    _VIEWS[view].controls(list(model.sites))
    left, right = st.columns([1, 2.4])
    with left:
        choice("Direction", DIRECTIONS, "direction")
    if view == WIRES:
        selection.choose_reader(model)
    elif view != ATTRIBUTION:  # a gradient says nothing of zeros or means
        with right:
            choice("Put there", PATCH_WITH, "patch_with")
    body = st.container()
    with st.expander("More settings"):
        start_token(model)
        target_and_foil(
            about="The answer that is right after the clean prompt",
            foil_for="in the logit difference",
            without_foil="what the corrupted run says",
        )
        choice("Metric", METRICS, "metric")
        choice("Numbers in the map", SCALES, "scale")
        choice("Align the prompts by", ALIGN, "align")
        scene = _scene(model, selection.chosen(clean, corrupted, view))
        if view == WIRES:
            selection.choose_wire(len(scene.tokens), wires_view.senders(scene))
        else:
            selection.choose_cell(model, len(scene.tokens), heads=view == HEADS)
    # The controls of the chosen cell may have let go of a place that is not there.
    settings = selection.chosen(clean, corrupted, view)
    scene = _scene(model, settings)
    with body, polite_errors():
        _draw(scene, view)
    _take_away(scene)
    # A lesson asks about none of the visitor's own pairs, which may be a file.
    chosen = {"layer": scene.layer, "at": scene.at, "head": scene.head, "own_pairs": ""}
    return LabState(model, {**asdict(settings), **chosen})


def _scene(model: HookedModel, settings: Settings) -> Scene:
    asked = many_view.first_pair(model, settings) if settings.view == MANY else settings
    return scene_of(model, asked)


def _draw(scene: Scene, view: str) -> None:
    for note in scene.notes:
        st.caption(f":material/info: {plain(note)}")
    token_strip(scene)
    if not scene.pair.differing:
        st.warning(
            "The two prompts are the same, so there is nothing to patch; exchange a word.",
            icon=":material/info:",
        )
        return
    _VIEWS[view].draw(scene)


def _take_away(scene: Scene) -> None:
    settings = scene.settings
    st.caption(
        provenance(
            scene.model,
            f"{len(scene.tokens)} tokens",
            f"{settings.direction}, patched with {settings.patch_with}",
            f"{settings.metric.replace('_', ' ')}",
            f"seed {settings.seed} where something is drawn",
        )
    )
    with polite_errors():
        table_and_code(
            lambda: tables.table(scene),
            lambda: snippets.patching_code(scene),
            file_name="patching.csv",
            missing=tables.missing(scene),
        )
