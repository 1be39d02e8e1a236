"""Long work on the page: an offer to start it, its progress with *Cancel*, its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import streamlit as st

from app.errors import polite_errors
from app.jobs import Job

Result = TypeVar("Result")
_POLL_S = 1.0


@dataclass(frozen=True)
class Watched(Generic[Result]):
    """What to draw at each stage of one kind of job.

    Attributes:
        key: where the visitor's job is kept, and the start of its widgets' names.
        unit: what is counted: "step" makes "step 3 of 60".
        offer: draws the controls before and after a run; they call `start`.
        finish: draws the result of a job that has one.
        meanwhile: draws below the progress while the job runs.
    """

    key: str
    unit: str
    offer: Callable[[], None]
    finish: Callable[[Job[Result]], None]
    meanwhile: Callable[[Job[Any]], None] | None = None

    def start(self, work: Callable[[Job[Result]], Result]) -> None:
        """Begin the visitor's job."""
        st.session_state[self._place] = Job(work).start()

    @property
    def _place(self) -> str:
        return f"{self.key}_job"

    def draw(self) -> None:
        """Whatever stage it is at; to be called on every run."""
        _watch(self)


@st.fragment
def _watch(watched: Watched[Any]) -> None:
    job: Job[Any] | None = st.session_state.get(watched._place)
    if job is None:
        watched.offer()
    elif not job.finished.is_set():
        _progress(watched)
    else:
        _finish(watched, job)


@st.fragment(run_every=_POLL_S)
def _progress(watched: Watched[Any]) -> None:
    job: Job[Any] | None = st.session_state.get(watched._place)
    if job is None or job.finished.is_set():
        st.rerun()
    what = f"{watched.unit} {job.done} of {job.total}" if job.total else "preparing the text"
    st.progress(job.done / max(job.total, 1), text="Stopping ..." if job.cancelled else what)
    if watched.meanwhile is not None:
        watched.meanwhile(job)
    st.button("Cancel", key=f"{watched.key}_cancel", on_click=job.cancel, disabled=job.cancelled)


def _finish(watched: Watched[Any], job: Job[Any]) -> None:
    del st.session_state[watched._place]
    if job.error is not None:
        with polite_errors():
            raise job.error
    elif job.result is None:
        st.info("Cancelled. Nothing was kept.")
    else:
        watched.finish(job)
    watched.offer()
