"""The edit as watched work: an offer to make it, its optimisation while it runs, *Cancel*."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from app.editing_lab import ledger as visit
from app.editing_lab.asked import compute, request_of
from app.editing_lab.ledger_view import undo_button
from app.editing_lab.numbers_view import optimisation
from app.editing_lab.settings import Settings
from app.errors import polite_errors
from app.jobs import Job
from app.watched_job import Watched
from lens_core.editing import Edit, EditTrace
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    from lens_core import HookedModel

# The trace of the edit under way, for its plot.
_LIVE, _METHOD, _REFUSED = "editing_live", "editing_method", "editing_refused"


def draw(model: HookedModel) -> None:
    """*Edit* and *Undo*, or the progress of an edit."""
    _live(model).draw()


def _live(model: HookedModel) -> Watched[Edit]:
    return Watched(
        "editing",
        "step",
        offer=lambda: _offer(model),
        finish=lambda job: _finish(model, job),
        meanwhile=lambda job: _plot(),
    )


def _offer(model: HookedModel) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Edit",
            key="editing_start",
            icon=":material/edit:",
            on_click=_begin,
            args=(model,),
        )
        undo_button(model, key="editing_undo")
    refused = st.session_state.pop(_REFUSED, None)
    if refused is not None:
        with polite_errors():
            raise refused


def _begin(model: HookedModel) -> None:
    """Start the edit that the controls ask for, or keep why it cannot be made.

    In a callback, since the run that finds the button pressed may be one of the whole page or of
    the fragment alone.
    """
    settings = Settings.standing(st.session_state)
    try:
        # Refused here, before a thread is begun for it.
        request_of(model, settings).tokenize(model)
    except LensError as error:
        st.session_state[_REFUSED] = error
        return
    traces: list[EditTrace] = []
    st.session_state[_LIVE], st.session_state[_METHOD] = traces, settings.method
    view = visit.of(model).model(model)
    _live(model).start(lambda job: _work(view, model, settings, job, traces.append))


def _work(
    view: HookedModel,
    model: HookedModel,
    settings: Settings,
    job: Job[Edit],
    on_trace: Callable[[EditTrace], None],
) -> Edit:
    """The edit on the model as the visit's ledger has it; ends early when cancelled."""
    return compute(
        view,
        model,
        settings,
        request_of(model, settings),
        on_step=lambda done, total: job.step(done, total, 0.0),
        on_trace=on_trace,
    )


def _plot() -> None:
    traces: list[EditTrace] = st.session_state.get(_LIVE, [])
    if traces:
        optimisation(traces[-1], key="editing_live_steps")


def _finish(model: HookedModel, job: Job[Edit]) -> None:
    assert job.result is not None
    request = job.result.requests[0]
    name = f"{st.session_state[_METHOD]}: {request.subject} → {request.target_new}"
    visit.keep(model, job.result, name)
    st.session_state["edit_chosen"] = None  # the newest
    st.rerun()  # the sidebar counts the edits
