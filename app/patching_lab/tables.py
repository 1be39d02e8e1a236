"""The table of what a view shows, as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.jobs import Job
from app.patching_lab import many_view
from app.patching_lab.asked import Scene
from app.patching_lab.attribution_view import estimate_of, with_other_run
from app.patching_lab.measured import heads_job, places_job
from app.patching_lab.settings import ATTRIBUTION, HEADS, MANY, WIRES
from app.patching_lab.wires import wires_job

if TYPE_CHECKING:
    import pandas as pd


def table(scene: Scene) -> pd.DataFrame:
    """One line a patched place."""
    if scene.settings.view == HEADS:
        return _waited(heads_job(scene))
    if scene.settings.view == MANY:
        return many_view.table(scene)
    if scene.settings.view == ATTRIBUTION:
        return _estimates(scene)
    if scene.settings.view == WIRES:
        return _wires(scene)
    frame = _waited(places_job(scene))
    frame.insert(2, "token", [scene.tokens[i] for i in frame["position"]])
    return frame


def missing(scene: Scene) -> str:
    """Why there is no table yet; empty where there is one."""
    if scene.settings.view == MANY and many_view.kept_for(scene) is None:
        return "There is no average yet: choose Patch them first."
    return ""


def _estimates(scene: Scene) -> pd.DataFrame:
    frame = estimate_of(scene).result.to_frame()
    frame = frame.rename(columns={"value": "estimated", "normalised": "estimated_normalised"})
    true = _waited(places_job(with_other_run(scene)))
    frame["true"], frame["true_normalised"] = true["value"], true["normalised"]
    frame.insert(2, "token", [scene.tokens[i] for i in frame["position"]])
    return frame


def _wires(scene: Scene) -> pd.DataFrame:
    found = _result(wires_job(scene)).found
    frame: pd.DataFrame = found.to_frame()
    frame["share_of_the_way"] = found.moved.ravel()
    return frame


def _waited(job: Job[Any]) -> pd.DataFrame:
    frame: pd.DataFrame = _result(job).to_frame()
    return frame


def _result(job: Job[Any]) -> Any:
    job.finished.wait()
    if job.error is not None:
        raise job.error
    assert job.result is not None
    return job.result.result
