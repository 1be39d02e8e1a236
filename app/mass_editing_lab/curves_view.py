"""The curves: each score against the number of edits, the collapse, and what is said of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.errors import plain
from app.mass_editing_lab.experiment import SCORES, Curves
from app.mass_editing_lab.settings import METHODS
from app.theme import is_dark
from lens_core.bootstrap import Interval
from lens_core.editing.evaluate import NOT_COMPARABLE, ScalingPoint
from lens_core.editing.evaluate.many_edits import COLLAPSE_PERPLEXITY, COLLAPSE_UNTOUCHED
from lens_core.plots.mass_editing import Line, score_curves

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Short names for legends, and each method's own place among colours.
SHORT: Mapping[str, str] = {
    "r-rome": "ROME",
    "original": "ROME 2022",
    "memit": "MEMIT",
    "emmet": "EMMET",
    "alphaedit": "AlphaEdit",
    "ft": "FT",
}
PLACES = {name: at for at, (name, _) in enumerate(METHODS.values())}
_COLLAPSE = (
    "**Collapsed** means here that the perplexity of ordinary text is at least "
    f"{COLLAPSE_PERPLEXITY:g} times the unedited model's, or that "
    f"{1 - COLLAPSE_UNTOUCHED:.0%} or more of the untouched facts are lost. The collapse is at the "
    "first count, of those measured, at which that is so."
)


def draw(found: Curves, *, key: str) -> None:
    """One figure a score, two abreast; then the collapse in words and how to read the scores."""
    if found.stopped:
        st.warning(plain(found.stopped), icon=":material/info:")
    if not found.found.points:
        return
    st.caption(
        f"Facts: {len(found.facts)}. Of many, at most 150 are asked at a count, evenly spread. "
        "Bars are 95% intervals over facts (bootstrap)."
    )
    columns = st.columns(2)
    for at, name in enumerate(shown(found)):
        with columns[at % 2]:
            st.plotly_chart(
                figure(found, name, dark=is_dark()),
                theme=None,
                key=f"{key}_{name}",
                config={"displayModeBar": False},
                alt=_told(found, name),
            )
            st.caption(SCORES[name].means)
    st.markdown(_collapse(found))
    st.caption(f"{_COLLAPSE} {NOT_COMPARABLE}")


def shown(found: Curves) -> list[str]:
    """The scores that some point has."""
    return [name for name in SCORES if any(has(p, name) for p in found.found.points)]


def has(point: ScalingPoint, name: str) -> bool:
    """Whether a point has this score."""
    return not math.isnan(getattr(point, name))


def figure(found: Curves, name: str, *, dark: bool) -> go.Figure:
    """One score of every method."""
    score = SCORES[name]
    collapsed = {SHORT[m]: found.found.collapse(m) for m in found.methods}
    unedited = found.unedited
    return score_curves(
        [
            line(SHORT[method], PLACES[method], name, found.found.of(method))
            for method in found.methods
            if any(has(p, name) for p in found.found.of(method))
        ],
        title=score.title,
        y_title="share" if score.share else "times the unedited",
        width=found.width,
        unedited=None if unedited is None else getattr(unedited, name),
        collapsed={m: n for m, n in collapsed.items() if n is not None},
        share=score.share,
        dark=dark,
    )


def line(legend: str, place: int, name: str, points: Sequence[ScalingPoint]) -> Line:
    """One method's points of one score; what has no interval is its own."""
    here = [point for point in points if has(point, name)]
    value = np.array([getattr(p, name) for p in here])
    low = np.array([p.low.get(name, getattr(p, name)) for p in here])
    high = np.array([p.high.get(name, getattr(p, name)) for p in here])
    return Line(legend, place, tuple(p.n for p in here), Interval(value, low, high, len(here)))


def _told(found: Curves, name: str) -> str:
    """The figure in words, for those who do not see it."""
    said = []
    for method in found.methods:
        here = [p for p in found.found.of(method) if has(p, name)]
        if here:
            first, last = here[0], here[-1]
            said.append(
                f"{SHORT[method]} from {_value(name, first)} at {first.n} to "
                f"{_value(name, last)} at {last.n} edits"
            )
    return f"{SCORES[name].title} against the number of edits: {'; '.join(said)}"


def _value(name: str, point: ScalingPoint) -> str:
    value = float(getattr(point, name))
    return f"{value:.0%}" if SCORES[name].share else f"{value:.3g}"


def _collapse(found: Curves) -> str:
    said = []
    for method in found.methods:
        last = found.found.of(method)[-1]
        n = found.found.collapse(method)
        took = f"{last.seconds:.1f} s of computing"
        said.append(
            f"- **{SHORT[method]}** has not collapsed by {last.n} edits; "
            f"{_value('latest', last)} of the newest hold ({took})."
            if n is None
            else f"- **{SHORT[method]}** has collapsed at **{n} edits**, {n / found.width:.2g} of "
            f"the layer's {found.width} keys ({took})."
        )
    return "\n".join(said)
