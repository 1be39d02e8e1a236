"""One plotly template for every figure of Lens Lab, light or dark."""

from __future__ import annotations

import plotly.graph_objects as go

from lens_core.plots.palette import palette

TEXT_FONT = "Source Serif, Georgia, serif"
MONO_FONT = "Plex Mono, ui-monospace, monospace"


def colorscale(colors: tuple[str, ...]) -> list[list[float | str]]:
    """A ramp as plotly wants it, evenly spaced."""
    return [[i / (len(colors) - 1), color] for i, color in enumerate(colors)]


def template(*, dark: bool = False) -> go.layout.Template:
    """Template with our fonts, our ramps, quiet axes and no animation of its own.

    The page shows through figures, so that they sit on any background of the app.
    """
    colors = palette(dark=dark)
    axis = {
        "gridcolor": colors.line,
        "linecolor": colors.line,
        "zerolinecolor": colors.line,
        "tickfont": {"family": MONO_FONT, "size": 12, "color": colors.ink},
        "title": {"font": {"size": 13, "color": colors.muted}, "standoff": 8},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": TEXT_FONT, "size": 14, "color": colors.ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(colors.categorical),
            "colorscale": {
                "sequential": colorscale(colors.sequential),
                "diverging": colorscale(colors.diverging),
            },
            "coloraxis": {"colorbar": {"outlinewidth": 0, "thickness": 12}},
            "title": {"font": {"size": 15, "color": colors.ink}, "x": 0, "xanchor": "left"},
            "legend": {"font": {"family": MONO_FONT, "size": 12}, "bgcolor": "rgba(0,0,0,0)"},
            "hoverlabel": {
                "bgcolor": colors.panel,
                "bordercolor": colors.line,
                "font": {"family": MONO_FONT, "size": 12, "color": colors.ink},
            },
            "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
            "xaxis": axis,
            "yaxis": axis,
        }
    )
