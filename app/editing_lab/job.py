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

if TYPE_CHECKING:
    from lens_core import HookedModel

# The trace of the edit under way, for its plot.
_LIVE = "editing_live"


def draw(model: HookedModel, settings: Settings) -> None:
    """*Edit* and *Undo*, or the progress of an edit."""
    _live(model, settings).draw()


def _live(model: HookedModel, settings: Settings) -> Watched[Edit]:
    return Watched(
        "editing",
        "step",
        offer=lambda: _offer(model, settings),
        finish=lambda job: _finish(model, job, settings),
        meanwhile=lambda job: _plot(),
    )


def _offer(model: HookedModel, settings: Settings) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button("Edit", key="editing_start", icon=":material/edit:", type="primary")
        undo_button(model, key="editing_undo")
    if pressed:
        with polite_errors():
            # Refused here, before a thread is begun for it.
            request_of(model, settings).tokenize(model)
            traces: list[EditTrace] = []
            st.session_state[_LIVE] = traces
            ledger = visit.of(model)
            view = ledger.model(model)
            _live(model, settings).start(
                lambda job: _work(view, model, settings, job, traces.append)
            )
            st.rerun(scope="fragment")


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


def _finish(model: HookedModel, job: Job[Edit], settings: Settings) -> None:
    assert job.result is not None
    request = job.result.requests[0]
    name = f"{settings.method}: {request.subject} → {request.target_new}"
    visit.keep(model, job.result, name)
    st.session_state["edit_chosen"] = None  # the newest
    st.rerun()  # the sidebar counts the edits
