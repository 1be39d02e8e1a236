"""The lab: many facts and the methods that write them, or the layers and what tracing says."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from app import answer_controls
from app.errors import polite_errors
from app.lesson.state import LabState
from app.mass_editing_lab import locating_view, many_view
from app.mass_editing_lab.rows import TableError
from app.mass_editing_lab.settings import MANY, VIEWS, Settings
from app.mass_editing_lab.source import choose_facts, invitation
from app.models import chosen_model

if TYPE_CHECKING:
    from lens_core import HookedModel


def mass_editing_column() -> LabState | None:
    """The view and all below it; None while there is no fact.

    To be called within a fragment, which a click in the lab then runs again.
    """
    standing = None
    with polite_errors():
        model = chosen_model()
        if answer_controls.choice("View", VIEWS, "view", MANY) == MANY:
            standing = _many(model)
        else:
            locating_view.draw(model)
            standing = _standing(model)
    return standing


def _many(model: HookedModel) -> LabState | None:
    try:
        facts = choose_facts(model)
    except TableError:
        invitation()
        return None
    many_view.draw(model, facts)
    return _standing(model)


def _standing(model: HookedModel) -> LabState:
    return LabState(model, asdict(Settings.standing(st.session_state)))
