"""Figures of many edits: scores against the number of edits, and layers against tracing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import plotly.graph_objects as go

from lens_core.bootstrap import Interval
from lens_core.plots.lens import DASHES, MARKERS
from lens_core.plots.palette import Palette, palette
from lens_core.plots.template import template

_LEGEND = {"orientation": "h", "yanchor": "top", "y": -0.36, "x": 0}
_HEIGHT = 340


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        name: in the legend; place: among colours, dashes and markers, so that a name has the same
            ones in every figure.
        x: where it was measured.
        y: value, low and high there, an array of the length of ``x`` each.
    """

    name: str
    place: int
    x: tuple[int, ...]
    y: Interval


def score_curves(
    lines: Sequence[Line],
    *,
    title: str,
    y_title: str,
    width: int,
    unedited: float | None = None,
    collapsed: Mapping[str, int] | None = None,
    share: bool = True,
    dark: bool = False,
) -> go.Figure:
    """One score against the number of edits, a line a method, with 95% intervals as bars.

    Args:
        width: the number of keys that a layer tells apart (d_mlp); its share stands below each
            count.
        unedited: the score without any edit, as a dotted line.
        collapsed: at which count a method, by its line's name, has collapsed.
        share: the score goes from 0 to 1; otherwise its axis is logarithmic where it spreads wide.
    """
    colors = palette(dark=dark)
    fig = go.Figure()
    for line in lines:
        fig.add_scatter(**_drawn(line, colors))
    counts = sorted({x for line in lines for x in line.x})
    if unedited is not None and np.isfinite(unedited):
        # No line of a figure's layout: it would not show in the legend.
        fig.add_scatter(
            x=[counts[0], counts[-1]] if counts else [],
            y=[unedited] * min(2, len(counts)),
            mode="lines",
            name="unedited",
            line={"color": colors.muted, "dash": "dot", "width": 1.5},
            hovertemplate="unedited: %{y:.3g}<extra></extra>",
        )
    _mark(fig, collapsed or {}, colors)
    fig.update_layout(
        template=template(dark=dark), title=title, height=_HEIGHT, legend=_LEGEND, hovermode="x"
    )
    fig.update_xaxes(
        type="log",
        tickvals=(ticks := _apart(counts)),
        ticktext=[f"{n}<br>{n / width:.1g}" for n in ticks],
        tickangle=0,
        title="edits; below, edits / width of the layer",
    )
    if share:
        fig.update_yaxes(title=y_title, range=[-0.03, 1.06], tickformat=".0%")
    else:
        values = [v for line in lines for v in line.y.value if np.isfinite(v)]
        wide = bool(values) and max(values) > 4 * min(values)
        fig.update_yaxes(title=y_title, type="log" if wide else "linear")
    return fig


def layer_lines(lines: Sequence[Line], *, title: str, dark: bool = False) -> go.Figure:
    """Shares against the layer, a line a measure, with 95% intervals as bars."""
    colors = palette(dark=dark)
    fig = go.Figure()
    for line in lines:
        fig.add_scatter(**_drawn(line, colors))
    fig.update_layout(
        template=template(dark=dark), title=title, height=_HEIGHT, legend=_LEGEND, hovermode="x"
    )
    fig.update_xaxes(title="layer", dtick=1)
    fig.update_yaxes(title="share", zeroline=True, tickformat=".0%")
    return fig


def layer_correlations(
    layers: Sequence[int], found: Interval, *, title: str, dark: bool = False
) -> go.Figure:
    """A correlation for each layer, with its 95% interval; 0 is none."""
    colors = palette(dark=dark)
    fig = go.Figure(
        go.Scatter(
            x=list(layers),
            y=found.value,
            error_y=_bars(found, colors.accent),
            mode="markers",
            marker={"color": colors.accent, "size": 9},
            hovertemplate="layer %{x}: %{y:.2f}<extra></extra>",
        )
    )
    fig.update_layout(template=template(dark=dark), title=title, height=280, showlegend=False)
    fig.update_xaxes(title="layer", dtick=1)
    fig.update_yaxes(title="correlation over facts", range=[-1.05, 1.05], zeroline=True)
    return fig


def _apart(counts: Sequence[int]) -> list[int]:
    """Those counts whose labels do not touch on a logarithmic axis, the last one among them.

    >>> _apart([1, 2, 5, 8, 10])
    [1, 2, 5, 10]
    """
    kept = list(counts[-1:])
    least = 0.16 * np.log10(counts[-1] / counts[0]) if counts else 0.0
    for n in reversed(counts[:-1]):
        if np.log10(kept[0] / n) >= least:
            kept.insert(0, n)
    return kept


def _drawn(line: Line, colors: Palette) -> dict[str, object]:
    color = colors.categorical[line.place % len(colors.categorical)]
    return {
        "x": list(line.x),
        "y": line.y.value,
        "error_y": _bars(line.y, color),
        "mode": "lines+markers",
        "name": line.name,
        "line": {"color": color, "dash": DASHES[line.place % len(DASHES)], "width": 2},
        "marker": {"symbol": MARKERS[line.place % len(MARKERS)], "size": 8},
        "hovertemplate": "%{fullData.name}: %{y:.3g}<extra></extra>",
    }


def _bars(found: Interval, color: str) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": np.maximum(found.high - found.value, 0),
        "arrayminus": np.maximum(found.value - found.low, 0),
        "color": color,
        "thickness": 1,
        "width": 3,
    }


def _mark(fig: go.Figure, collapsed: Mapping[str, int], colors: Palette) -> None:
    """An upright line where methods have collapsed, those of one count together."""
    ordered = sorted(collapsed.items(), key=lambda item: item[1])
    for count, group in groupby(ordered, key=lambda item: item[1]):
        names = ", ".join(name for name, _ in group)
        fig.add_vline(x=count, line={"color": colors.ink, "dash": "dash", "width": 1})
        fig.add_annotation(
            x=np.log10(count),  # a logarithmic axis counts annotations in powers
            y=1,
            yref="paper",
            yanchor="bottom",
            text=f"{names}: collapsed",
            showarrow=False,
            font={"size": 12, "color": colors.ink},
        )
