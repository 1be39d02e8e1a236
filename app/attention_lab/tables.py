"""The table of what a view shows, as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.attention_cache import ask
from app.attention_lab import answer_view, block_view, repeat_view, scores_view, weights_view
from app.attention_lab.asked import Scene
from app.attention_lab.grid_view import shown
from app.attention_lab.head_view import averaged
from app.attention_lab.settings import ANSWER, BLOCK, HEAD, SCORES
from app.jobs import Job
from lens_core.attention import query_key

if TYPE_CHECKING:
    import pandas as pd


def table(scene: Scene) -> pd.DataFrame:
    """One line a number of the view: an edge, a head, a part, a figure."""
    makers = {HEAD: _head, SCORES: _measured, ANSWER: _answer, BLOCK: _block}
    maker = makers.get(scene.settings.view)
    return shown(scene).to_frame() if maker is None else maker(scene)


def _head(scene: Scene) -> pd.DataFrame:
    import pandas as pd

    drawn, edge = scene.settings.drawn, scene.edge
    if drawn == "neuron view":
        return ask(scene.model, query_key, scene.token_ids, **edge).result.to_frame()
    if drawn == "weights":
        ov, qk = weights_view.read_weights(scene)
        return pd.concat([ov.to_frame(), qk.to_frame()], ignore_index=True)
    found: Any = averaged(scene) if drawn == "averaged" else None
    frame: pd.DataFrame = (found or shown(scene)).to_frame()
    mine = (frame["layer"] == edge["layer"]) & (frame["head"] == edge["head"])
    return frame[mine]


def _measured(scene: Scene) -> pd.DataFrame:
    if scene.settings.measured == "composition":
        return _waited(scores_view.composition_job(scene))
    if scene.settings.measured == "loss of a repeat":
        return _waited(repeat_view.curve_job(scene))
    return _waited(scores_view.scores_job(scene))


def _answer(scene: Scene) -> pd.DataFrame:
    makers: dict[str, Any] = {
        "sources": answer_view.sources,
        "neurons": answer_view.neurons,
        "accumulated": answer_view.along,
    }
    found = makers.get(scene.settings.parts, answer_view.direct_parts)(scene)
    frame: pd.DataFrame = found.to_frame()
    return frame


def _block(scene: Scene) -> pd.DataFrame:
    if scene.settings.blocked in ("head", "other parts"):
        return _waited(block_view.ablation_job(scene, block_view.parts_of(scene)))
    return block_view.edge_effect(scene).result.to_frame()


def _waited(job: Job[Any]) -> pd.DataFrame:
    job.finished.wait()
    if job.error is not None:
        raise job.error
    assert job.result is not None
    frame: pd.DataFrame = job.result.result.to_frame()
    return frame
