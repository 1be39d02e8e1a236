"""The lab: a fact and its subject, how it is corrupted, and one view of the trace at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from app.answer_controls import target_and_foil
from app.case_file import note_unknown_words
from app.errors import plain, polite_errors
from app.lens_cache import tokens_of
from app.lesson.state import LabState
from app.models import chosen_model
from app.take_away import provenance, table_and_code
from app.tracing_lab import many_view, one_view, selection, snippets
from app.tracing_lab.asked import MAX_SAMPLES, Asked, asked_of, kinds_of, trace_job
from app.tracing_lab.facts import choose_fact, invitation
from app.tracing_lab.selection import choice
from app.tracing_lab.settings import (
    CORRUPTIONS,
    DIRECTIONS,
    MANY,
    METRICS,
    NOISE,
    SEVERED,
    VIEWS,
    Settings,
)

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel


def tracing_column() -> LabState | None:
    """The fact and the lab below it; None while the sentence or its subject is missing.

    To be called within a fragment, which a click in the lab then runs again.
    """
    standing = None
    with polite_errors():
        model = chosen_model()
        prompt, subject = choose_fact(model)
        if not prompt.strip() or not subject.strip():
            invitation()
            return None
        standing = _lab(model, prompt, subject)
    return standing


def _lab(model: HookedModel, prompt: str, subject: str) -> LabState:
    note_unknown_words(model, prompt)
    selection.fresh(prompt)
    view = choice("View", VIEWS, "view")
    _corruption(model)
    severed = choice("Cut off from the restored state", SEVERED, "severed")
    body = st.container()
    with st.expander("More settings"):
        n_tokens = len(tokens_of(model, prompt))
        _more(model, n_tokens, kinds_of(Settings(severed=severed)))
    asked = asked_of(model, selection.chosen(prompt, subject))
    with body, polite_errors():
        for note in asked.notes:
            st.caption(f":material/info: {plain(note)}")
        (many_view.draw if view == MANY else one_view.draw)(asked)
        st.warning(
            "Tracing shows where the answer passes through. It does not tell where to edit a fact: "
            "how well an edit works in a layer has almost nothing to do with what tracing says of "
            "that layer (Hase and others, 2023).",
            icon=":material/info:",
        )
    _take_away(asked)
    return LabState(model, _standing(asked))


def _standing(asked: Asked) -> dict[str, object]:
    settings = asked.settings
    layer = min(max(settings.layer, 0), asked.model.cfg.n_layers - 1)
    return {**asdict(settings), "layer": layer, "window": asked.window}


def _corruption(model: HookedModel) -> None:
    kind = choice("The subject is corrupted by", CORRUPTIONS, "corruption")
    start = Settings()
    left, middle, right = st.columns(3)
    state = st.session_state
    if isinstance(state.get("sigmas"), int):
        state["sigmas"] = float(state["sigmas"])  # a lesson gives whole numbers
    if kind == NOISE:
        left.number_input(
            "Noise, in standard deviations",
            0.1,
            20.0,
            start.sigmas,
            0.5,
            key="sigmas",
            bind="query-params",
            persist_state="page",
            help="Multiples of the standard deviation of the subject's own embeddings; the paper "
            "takes three.",
        )
        middle.number_input(
            "Draws of it",
            1,
            MAX_SAMPLES,
            start.samples,
            key="samples",
            bind="query-params",
            persist_state="page",
            help="Every cell of the maps gets the same draws, and shows their mean.",
        )
    else:
        left.text_input(
            "The other subject",
            key="other_subject",
            bind="query-params",
            persist_state="page",
            max_chars=200,
            placeholder="equally many tokens",
        )
    right.number_input(
        "Window, in layers",
        1,
        model.cfg.n_layers,
        None,
        key="window",
        bind="query-params",
        persist_state="page",
        placeholder="a fifth of the depth",
        help="How many layers' MLPs or attentions are restored together.",
    )


def _more(model: HookedModel, n_tokens: int, kinds: Sequence[str]) -> None:
    target_and_foil(
        about="The answer whose probability is followed",
        foil_for="when the metric is the logit difference",
    )
    choice("Direction", DIRECTIONS, "direction")
    choice("Metric", METRICS, "metric")
    selection.choose_cell(model, n_tokens, kinds)
    st.number_input(
        "Seed of the noise and of the facts", 0, 9999, 0, key="seed", bind="query-params",
        persist_state="page",
    )  # fmt: skip


def _take_away(asked: Asked) -> None:
    settings = asked.settings
    st.caption(
        provenance(
            asked.model,
            f"{settings.corruption}, {settings.sigmas:g} standard deviations, {settings.samples} "
            "draws"
            if settings.corruption == NOISE
            else "another subject",
            f"window of {asked.window}",
            f"seed {settings.seed}",
        )
    )
    with polite_errors():
        none_yet = settings.view == MANY and many_view.kept_for(asked) is None
        table_and_code(
            lambda: _table(asked),
            lambda: snippets.tracing_code(asked),
            file_name="tracing.csv",
            missing=many_view.NONE_YET if none_yet else "",
        )


def _table(asked: Asked) -> pd.DataFrame:
    if asked.settings.view == MANY:
        return many_view.table(asked)
    job = trace_job(asked)
    job.finished.wait()
    if job.error is not None:
        raise job.error
    assert job.result is not None
    return job.result.result.to_frame()
