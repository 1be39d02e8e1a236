"""Work that may take seconds: begun once for all visitors, waited for without holding the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from app.attention_cache import Answer, begin
from app.jobs import Job
from lens_core.attention import HeadScores, head_scores

if TYPE_CHECKING:
    from lens_core import HookedModel

Result = TypeVar("Result")
_AT_ONCE_S, _POLL_S = 0.4, 1.0


def standard_scores(model: HookedModel, seed: int = 0) -> Job[Answer[HeadScores]]:
    """All scores on repeated random tokens, with the random-weights control."""
    return begin(model, head_scores, seed=seed)


def settled(
    job: Job[Answer[Result]],
    what: str,
    draw: Callable[[Answer[Result]], None],
    *,
    at_once_s: float = _AT_ONCE_S,
) -> None:
    """Draw the answer once it is there; until then say how long it has taken, and look again.

    The page stays usable meanwhile, and whoever comes later finds the answer. Raises the job's
    error.

    Args:
        at_once_s: an answer that comes within so many seconds is waited for, for looking again
            means to draw the whole page again.
    """
    job.finished.wait(at_once_s)
    if job.finished.is_set():
        _draw(job, draw)
    else:
        _wait(job, what, time.monotonic())


def _draw(job: Job[Answer[Result]], draw: Callable[[Answer[Result]], None]) -> None:
    if job.error is not None:
        raise job.error
    assert job.result is not None
    draw(job.result)


@st.fragment(run_every=_POLL_S)
def _wait(job: Job[Answer[Result]], what: str, since: float) -> None:
    if job.finished.is_set():
        st.rerun()
    passed = time.monotonic() - since
    # How far such a pass is cannot be known; that it goes on can be seen.
    st.progress(passed / (passed + 5), text=f"{what}: {passed:.0f} s")
