"""Does locating help? The layer sweep of edit success over that of tracing, fact by fact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.answer_controls import choice
from app.errors import polite_errors
from app.jobs import Job
from app.lens_cache import fingerprint
from app.mass_editing_lab.experiment import OnStep
from app.mass_editing_lab.settings import SUCCESSES, Settings
from app.mass_editing_lab.snippets import SHORTER, locating_code
from app.mass_editing_lab.source import world_records
from app.take_away import provenance, table_and_code
from app.theme import is_dark
from app.watched_job import Watched
from lens_core.bootstrap import Interval
from lens_core.editing import Edit, EditingError, EditRequest, preset, rome
from lens_core.editing.evaluate import EvaluationRecord, Locating, locating
from lens_core.editing.evaluate.locating_helps import Estimate
from lens_core.plots.mass_editing import Line, layer_correlations, layer_lines

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from lens_core import HookedModel

MOST_FACTS = 60
_KEPT = "mass_locating"
_NAMES = {
    "rewrite": "edit success",
    "paraphrase": "in other words",
    "neighbourhood": "neighbours kept",
}
_HASE = (
    "**Hase, Bansal, Kim and Ghandeharioun (2023)** asked this of GPT-J and 652 facts. How well an "
    "edit at a layer worked had a correlation of -0.13 with the tracing effect there. The choice "
    "of the layer explained 0.947 of the variance of the success; the tracing effect explained "
    "0.016, and beside the layer 0.001 more. *Does Localization Inform Editing?*, "
    "arXiv:2301.04213. That an edit works at a layer is no evidence that the fact lived there."
)


@dataclass(frozen=True, eq=False)
class Kept:
    """The visitor's sweep, and what it was made with."""

    key: tuple[object, ...]
    found: Locating


def draw(model: HookedModel) -> None:
    """What is asked, the run, both sweeps, the correlations, and what others found."""
    st.markdown(
        "Tracing points at layers. ROME can write to any layer. If a fact were stored where "
        "tracing points, then an edit should work best there. So every fact is traced, and written "
        "at every layer."
    )
    n, seed = _which()
    _live(model, n, seed).draw()
    st.info(_HASE, icon=":material/menu_book:")
    with polite_errors():
        st.caption(
            provenance(
                model, f"{n} facts of the world", "r-ROME at every layer, a shorter search",
                "tracing of MLP outputs, Gaussian noise", f"seed {seed}",
            )
        )  # fmt: skip
        table_and_code(
            lambda: _table(model, n, seed),
            lambda: locating_code(model, n, seed),
            file_name="locating.csv",
        )


def _which() -> tuple[int, int]:
    left, right = st.columns(2)
    n = left.slider(
        "How many facts", 4, MOST_FACTS, Settings().n_locating, key="n_locating",
        bind="query-params", persist_state="page",
    )  # fmt: skip
    seed = right.number_input(
        "Seed of the facts", 0, 9999, 0, key="seed", bind="query-params", persist_state="page"
    )
    return int(n), int(seed)


def _live(model: HookedModel, n: int, seed: int) -> Watched[Locating]:
    return Watched(
        "mass_locating",
        "fact",
        offer=lambda: _offer(model, n, seed),
        finish=lambda job: _keep(model, n, seed, job),
    )


def _key(model: HookedModel, n: int, seed: int) -> tuple[object, ...]:
    return fingerprint(model), n, seed


def _offer(model: HookedModel, n: int, seed: int) -> None:
    label = f"Trace {n} facts, and write each at every layer"
    if st.button(label, key="mass_locate", icon=":material/play_arrow:"):
        _live(model, n, seed).start(lambda job: _work(model, n, seed, job))
        st.rerun(scope="fragment")
    kept: Kept | None = st.session_state.get(_KEPT)
    if kept is not None and kept.key == _key(model, n, seed):
        _draw(kept.found)
    elif kept is not None:
        st.caption("The facts have changed since the last run; run again to see them.")
    else:
        st.caption("Nothing has been run yet.")


def _work(model: HookedModel, n: int, seed: int, job: Job[Locating]) -> Locating:
    return sweep(
        model,
        world_records(model, n=n, seed=seed),
        on_step=lambda done, total: job.step(done, total, float(done)),
    )


def sweep(
    model: HookedModel, facts: Sequence[EvaluationRecord], *, on_step: OnStep | None = None
) -> Locating:
    """Both sweeps of these facts. Raises EditingError where there are fewer than two."""
    if len(facts) < 2:
        raise EditingError(
            f"{model.cfg.name} answers none of the facts of this world, so there is nothing to "
            "locate; choose tiny-world at the left."
        )
    start = replace(preset(model, "rome").settings, **SHORTER)

    def make(view: HookedModel, request: EditRequest, layer: int) -> Edit:
        return rome(view, request, replace(start, layer=layer))

    return locating(model, make, facts, on_step=on_step)


def _keep(model: HookedModel, n: int, seed: int, job: Job[Locating]) -> None:
    assert job.result is not None
    st.session_state[_KEPT] = Kept(_key(model, n, seed), job.result)


def _draw(found: Locating) -> None:
    name = choice("Success is", SUCCESSES, "success", Settings().success)
    st.plotly_chart(
        sweeps(found, dark=is_dark()),
        theme=None,
        key="mass_sweeps",
        config={"displayModeBar": False},
        alt=_told(found),
    )
    st.caption(
        f"Means over {len(found.cases)} facts, bars: 95% intervals over facts. Tracing: how much "
        "probability of the old answer comes back when the MLP outputs of "
        f"{_layers(found.window)} around this one are restored at the subject's last token. "
        f"Neighbours kept: shares of other subjects' answers that the edit left alone."
    )
    st.plotly_chart(
        correlations(found, name, dark=is_dark()),
        theme=None,
        key="mass_correlations",
        config={"displayModeBar": False},
        alt=_told_correlations(found, name),
    )
    st.markdown(_conclusion(found, name))


def sweeps(found: Locating, *, dark: bool) -> go.Figure:
    """Success and tracing by layer, on one axis."""
    lines = [_line("tracing effect", 1, found, found.mean_tracing())]
    lines += [
        _line(_NAMES[name], place, found, found.mean_success(name))
        for place, name in zip((0, 2, 3), SUCCESSES, strict=True)
    ]
    return layer_lines(lines, title="Writing at a layer, and tracing it", dark=dark)


def _line(name: str, place: int, found: Locating, each: Sequence[Estimate]) -> Line:
    return Line(name, place, found.layers, _interval(each, len(found.cases)))


def _interval(each: Sequence[Estimate], n: int) -> Interval:
    value, low, high = np.array(each, dtype=float).T
    return Interval(value, low, high, n)


def correlations(found: Locating, name: str, *, dark: bool) -> go.Figure:
    """At each layer, over facts: does an edit work better where tracing is strong?"""
    each = [found.correlation(layer, name) for layer in found.layers]
    return layer_correlations(
        found.layers,
        _interval(each, len(found.cases)),
        title="Over facts, at each layer: tracing effect and success",
        dark=dark,
    )


def _layers(window: int) -> str:
    return "one layer" if window == 1 else f"{window} layers"


def _told(found: Locating) -> str:
    traced = max(zip(found.mean_tracing(), found.layers, strict=True))
    best = max(zip(found.mean_success(), found.layers, strict=True))
    return (
        f"By layer: tracing is strongest at layer {traced[1]}, {traced[0].value:.2f}; edits "
        f"succeed most at layer {best[1]}, {best[0].value:.2f}"
    )


def _told_correlations(found: Locating, name: str) -> str:
    each = (f"layer {n}: {_said(found.correlation(n, name))}" for n in found.layers)
    return f"Correlation over facts at each layer: {'; '.join(each)}"


def _said(one: Estimate) -> str:
    if np.isnan(one.value):
        return "none, since one of the two never varies"
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def _conclusion(found: Locating, name: str) -> str:
    explained = found.explained(name)
    within = found.correlation_over_layers(name)
    return (
        f"**{len(found.cases)} facts.** Over the layers of one fact, tracing and success have a "
        f"mean correlation of **{_said(within)}**. The choice of the layer explains "
        f"{_share(explained['layer'])} of the variance of the success, the tracing effect "
        f"{_share(explained['tracing'])}, both together {_share(explained['both'])}."
    )


def _share(r2: float) -> str:
    return "nothing that can be measured" if np.isnan(r2) else f"**{r2:.3f}**"


def _table(model: HookedModel, n: int, seed: int) -> pd.DataFrame:
    kept: Kept | None = st.session_state.get(_KEPT)
    if kept is None or kept.key != _key(model, n, seed):
        raise EditingError("Nothing has been run yet: trace and write the facts first.")
    return kept.found.to_frame()
