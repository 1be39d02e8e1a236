"""The lab: a fact and its new answer, the edit, the ledger, and both models side by side."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from app.attention_cache import ask
from app.case_file import note_unknown_words
from app.editing_lab import (
    answers_view,
    controls,
    job,
    ledger_view,
    lens_view,
    numbers_view,
    scores_view,
    snippets,
)
from app.editing_lab import ledger as visit
from app.editing_lab.asked import Scene, answer_now, facts_named, start_layer
from app.editing_lab.settings import (
    ANSWERS,
    IN_CONTEXT,
    LENS,
    NUMBERS,
    SCORES,
    VIEWS,
    Settings,
)
from app.errors import plain, polite_errors
from app.lesson.state import LabState
from app.models import chosen_model
from app.take_away import provenance, table_and_code
from app.tracing_lab.facts import FIRST, choose_fact, take
from lens_core.world.facts import facts_of

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.editing import Edit

_DRAWN = {
    ANSWERS: answers_view.draw,
    SCORES: scores_view.draw,
    NUMBERS: numbers_view.draw,
    LENS: lens_view.draw,
}
_CHOSEN = "edit_chosen"


def editing_column() -> LabState | None:
    """The fact and the lab below it; None while the sentence, subject or answer is missing.

    To be called within a fragment, which a click in the lab then runs again.
    """
    standing = None
    with polite_errors():
        model = chosen_model().base
        prompt, subject = choose_fact(model, used="The fact is about these words.")
        new = controls.new_answer(_alike(model, prompt, subject))
        if prompt.strip() and subject.strip() and new.strip():
            standing = _lab(model, prompt)
        else:
            _invitation()
            with polite_errors():
                ledger_view.draw(model)
    return standing


def _lab(model: HookedModel, prompt: str) -> LabState:
    note_unknown_words(model, prompt)
    _belief(model, prompt)
    controls.choose_method()
    settings = Settings.standing(st.session_state)
    with polite_errors():
        controls.choose_layer(model, settings, start_layer(model, settings.method))
    controls.more_settings(settings)
    settings = Settings.standing(st.session_state)
    job.draw(model)
    ledger_view.draw(model)
    scene = Scene(model, settings, visit.of(model), _chosen_edit(model))
    view = controls.choice("Look at", VIEWS, "view")
    with st.container(key="editing_view"), polite_errors():
        if not scene.holding:
            st.caption(
                ":material/info: No edit holds, so both are the same model. Choose *Edit* above."
            )
        _DRAWN[view](scene)
    _take_away(scene, view)
    layer = settings.edit_layer
    if layer is None:
        layer = start_layer(model, settings.method)
    return LabState(model, {**asdict(settings), "edit_layer": layer})


def _alike(model: HookedModel, prompt: str, subject: str) -> tuple[str, ...]:
    """Other answers to the same question, where the world has some."""
    if not prompt.strip() or not facts_named(subject):
        return ()
    fact, now = ask(model, answer_now, prompt=prompt, subject=subject).result
    if fact is None:
        return ()
    objects = dict.fromkeys(f.object for f in facts_of(fact.relation))
    return tuple(o for o in objects if o != now)[:6]


def _belief(model: HookedModel, prompt: str) -> None:
    said = f"The model says now: {controls.belief(model, prompt)}."
    after = visit.of(model).model(model)
    if after is not model:
        said += f"  \nWith your edits: {controls.belief(after, prompt)}."
    st.markdown(said)


def _chosen_edit(model: HookedModel) -> Edit | None:
    """The edit that numbers and scoreboard are about: the newest, or the one that was chosen."""
    entries = visit.of(model).entries
    if len(entries) < 2:
        return entries[0].edit if entries else None
    keys = [entry.key for entry in reversed(entries)]
    names = {entry.key: entry.name for entry in entries}
    if st.session_state.get(_CHOSEN) not in keys:
        st.session_state[_CHOSEN] = keys[0]
    chosen = st.selectbox(
        "The edit that numbers and scoreboard are about",
        keys,
        key=_CHOSEN,
        format_func=lambda key: names.get(key, ""),
    )
    return visit.of(model)[chosen].edit


def _invitation() -> None:
    with st.container(border=True):
        st.markdown(
            "**An edit needs a sentence, its subject, and the answer that it should have.** Type "
            "all three above, or begin here:"
        )
        prompt, subject = FIRST
        st.button(
            plain(f"{prompt} Rome (subject: {subject})"),
            key="begin_editing",
            on_click=_begin,
        )


def _begin() -> None:
    take(*FIRST)
    st.session_state[controls.NEW] = controls.FIRST_ANSWER


def _take_away(scene: Scene, view: str) -> None:
    settings = scene.settings
    n = len(scene.holding)
    st.caption(
        provenance(
            scene.model,
            f"{settings.method}" + ("" if settings.method == IN_CONTEXT else ", one MLP matrix"),
            f"{n} edit{'s' if n != 1 else ''} of this visit hold{'s' if n == 1 else ''}"
            + (f", edited model {scene.fingerprints[1]}" if n else ""),
            f"seed {settings.edit_seed}",
        )
    )
    with polite_errors():
        table_and_code(
            lambda: _table(scene, view),
            lambda: snippets.editing_code(scene.model, settings),
            file_name="editing.csv",
        )


def _table(scene: Scene, view: str) -> pd.DataFrame:
    if view == SCORES:
        return scores_view.table(scene)
    if view == NUMBERS:
        return numbers_view.table(scene)
    if view == LENS:
        return lens_view.table(scene)
    return answers_view.table(scene)
