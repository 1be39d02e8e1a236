"""One figure for any replication: series by depth with their intervals, or bars side by side."""

from __future__ import annotations

import plotly.graph_objects as go

from lens_core.lens.replications import Replication
from lens_core.lens.replications.result import Figure
from lens_core.plots.lens import DASHES, MARKERS
from lens_core.plots.palette import palette
from lens_core.plots.template import template


def quantities(replication: Replication) -> tuple[str, ...]:
    """What was measured, in order; each is one figure."""
    return tuple(dict.fromkeys(figure.quantity for figure in replication.figures))


def replication_figure(
    replication: Replication, quantity: str | None = None, *, dark: bool = False
) -> go.Figure:
    """One quantity (the first by default), its series in dash and marker too, not colour alone."""
    chosen = quantity or quantities(replication)[0]
    found = [f for f in replication.figures if f.quantity == chosen]
    fig = go.Figure()
    if all(f.depth is not None for f in found):
        _lines(fig, found, dark=dark)
    else:
        _points(fig, found, dark=dark)
    unit = f" ({found[0].unit})" if found[0].unit else ""
    fig.update_layout(
        template=template(dark=dark),
        title=f"{chosen[:1].upper()}{chosen[1:]}{unit}",
        legend={"orientation": "h", "yanchor": "top", "y": -0.25, "x": 0},
    )
    return fig


def _lines(fig: go.Figure, figures: list[Figure], *, dark: bool) -> None:
    colors = palette(dark=dark)
    for n, name in enumerate(dict.fromkeys(f.series for f in figures)):
        mine = sorted((f for f in figures if f.series == name), key=lambda f: f.depth or 0)
        fig.add_scatter(
            x=[f.depth for f in mine],
            y=[f.value for f in mine],
            error_y=_whiskers(mine),
            mode="lines+markers",
            name=name,
            line={
                "color": colors.categorical[n % len(colors.categorical)],
                "dash": DASHES[n % len(DASHES)],
            },
            marker={"symbol": MARKERS[n % len(MARKERS)], "size": 7},
            hovertemplate="%{fullData.name}, depth %{x}: %{y:.3g}<extra></extra>",
        )
    values = [f.value for f in figures]
    # One lens can be a hundred times another: then equal steps are equal factors.
    if min(values) > 0 and max(values) > 20 * min(values):
        fig.update_yaxes(type="log")
    distances = figures[0].quantity.endswith("by distance")
    fig.update_xaxes(title="layers apart" if distances else "depth (blocks done)", dtick=1)
    fig.update_layout(height=340)


def _points(fig: go.Figure, figures: list[Figure], *, dark: bool) -> None:
    """Series below each other: their names need the room."""
    colors = palette(dark=dark)
    fig.add_scatter(
        x=[f.value for f in figures],
        y=list(range(len(figures))),
        error_x=_whiskers(figures),
        mode="markers",
        marker={"color": colors.accent, "size": 9},
        hovertemplate="%{x:.3g}<extra></extra>",
        showlegend=False,
    )
    fig.update_yaxes(
        tickvals=list(range(len(figures))),
        ticktext=[f.series for f in figures],
        range=[len(figures) - 0.5, -0.5],
        showgrid=False,
    )
    fig.update_xaxes(zeroline=True)
    fig.update_layout(height=110 + 34 * len(figures))


def _whiskers(figures: list[Figure]) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [f.high - f.value for f in figures],
        "arrayminus": [f.value - f.low for f in figures],
        "thickness": 1,
        "width": 4,
    }
