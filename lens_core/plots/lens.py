"""Figures of a lens result: the grid, one cell's best guesses, tokens from block to block."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lens_core.lens import LensResult
from lens_core.plots.palette import palette
from lens_core.plots.quantities import FINAL_ANSWER, QUANTITIES, Aim
from lens_core.plots.template import MONO_FONT, colorscale, template
from lens_core.plots.tokens import plotly_text

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_ROW_PX = 30
_BAR_ENDS = (0.05, 0.1, 0.2, 0.5, 1.0)
_LEAST_SHOWN_LOG10 = -4


def lens_heatmap(
    lens: LensResult,
    quantity: str = "probability",
    *,
    aim: Aim = FINAL_ANSWER,
    dark: bool = False,
) -> go.Figure:
    """The grid: states by tokens, the best guess written in each cell, the last state at the top.

    ``quantity`` is a key of ``QUANTITIES``, and ``aim`` the token that ranks and log-probabilities
    are about. The colour scale has the same fixed range for every prompt, and strong colour means
    closer to a settled answer; a difference has two colours that meet at zero.
    """
    measure = QUANTITIES[quantity]
    values = measure.of(lens, aim)
    ticks = np.array(measure.ticks(lens.d_vocab))
    colors = palette(dark=dark)
    guesses = [[plotly_text(lens.texts[int(i)]) for i in row] for row in lens.top_ids[:, :, 0]]
    written = [["–" if np.isnan(v) else measure.write(float(v)) for v in row] for row in values]
    fig = go.Figure(
        go.Heatmap(
            z=measure.shade(values, lens.d_vocab),
            zmin=0,
            zmax=1,
            text=guesses,
            customdata=written,
            texttemplate="%{text}",
            textfont={"family": MONO_FONT, "size": 11},
            hovertemplate="row %{y}, after %{x}<br>best guess %{text}<br>"
            + f"{measure.label}: %{{customdata}} {measure.unit}<extra></extra>",
            colorscale=colorscale(colors.diverging if measure.diverging else colors.sequential),
            xgap=2,
            ygap=2,
            colorbar={
                "title": {"text": f"{measure.label} {measure.unit}".strip(), "side": "right"},
                "tickvals": measure.shade(ticks, lens.d_vocab),
                "ticktext": [measure.write_tick(float(t)) for t in ticks],
                "outlinewidth": 0,
                "thickness": 12,
            },
        )
    )
    fig.update_layout(
        template=template(dark=dark),
        title=f"{lens.lens_name.capitalize()} lens of {lens.model_name}: {measure.label}",
        height=120 + _ROW_PX * len(lens.row_layers),
    )
    # Numbered axes with texts as labels: a token that occurs twice keeps two columns.
    fig.update_xaxes(
        tickvals=list(range(len(lens.tokens))),
        ticktext=[plotly_text(t) for t in lens.tokens],
        title="token read",
        showgrid=False,
    )
    fig.update_yaxes(
        tickvals=list(range(len(lens.row_layers))),
        ticktext=list(lens.row_labels),
        title="after block",
        showgrid=False,
    )
    return fig


def top_k_bars(lens: LensResult, row: int, position: int, *, dark: bool = False) -> go.Figure:
    """The best guesses of one cell; the final answer, where it is among them, in the accent."""
    colors = palette(dark=dark)
    ids = lens.top_ids[row, position]
    probs = lens.top_probs[row, position]
    is_final = ids == lens.final_ids[position]
    places = np.arange(len(ids))
    fig = go.Figure(
        go.Bar(
            x=probs,
            y=places,
            orientation="h",
            marker={"color": [colors.accent if hit else colors.muted for hit in is_final]},
            text=["<0.1%" if p < 0.001 else f"{p:.1%}" for p in probs],
            textposition="outside",
            textfont={"family": MONO_FONT, "size": 12},
            cliponaxis=False,
            hoverinfo="skip",
        )
    )
    fig.update_layout(
        template=template(dark=dark),
        title=f"Best guesses {_where(lens, row)}, at {plotly_text(lens.tokens[position])}",
        height=60 + 24 * len(ids),
        bargap=0.3,
        showlegend=False,
    )
    # Few bars fill the axis of a probability; the next round end keeps small ones apart.
    end = next(end for end in _BAR_ENDS if end >= probs.max() or end == _BAR_ENDS[-1])
    # Room to the right of a full bar for its figure.
    fig.update_xaxes(range=[0, 1.25 * end], tickvals=[0, end / 2, end], tickformat=".3~%")
    fig.update_yaxes(
        tickvals=places,
        ticktext=[plotly_text(lens.texts[int(i)]) for i in ids],
        range=[len(ids) - 0.5, -0.5],
        showgrid=False,
    )
    return fig


def trajectories(
    lens: LensResult, position: int, *, row: int | None = None, dark: bool = False
) -> go.Figure:
    """Probability of the tracked tokens at one position, from the embedding to the output.

    Logarithmic, from 0.01% up, so that a climb shows long before it wins. ``row`` marks the chosen
    state. Tokens differ in dash and marker too, not in colour alone.
    """
    colors = palette(dark=dark)
    x = np.arange(len(lens.row_layers))
    fig = go.Figure()
    for n, (token_id, probs) in enumerate(lens.trajectories(position).items()):
        fig.add_scatter(
            x=x,
            y=probs,
            mode="lines+markers",
            name=plotly_text(lens.texts[token_id]),
            line={
                "color": colors.categorical[n % len(colors.categorical)],
                "dash": DASHES[n % len(DASHES)],
                "width": 3 if n == 0 else 2,
            },
            marker={"symbol": MARKERS[n % len(MARKERS)], "size": 7},
            hovertemplate="%{fullData.name}: %{y:.1%}<extra></extra>",
        )
    if row is not None:
        fig.add_vline(x=row, line={"color": colors.muted, "width": 1, "dash": "dot"})
    fig.update_layout(
        template=template(dark=dark),
        title=f"From block to block, at {plotly_text(lens.tokens[position])}",
        height=360,
        hovermode="x unified",
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
    )
    labels = ["emb" if label == "embed" else label for label in lens.row_labels]
    fig.update_xaxes(tickvals=x, ticktext=labels, title="after block", tickangle=0)
    fig.update_yaxes(
        type="log",
        range=[_LEAST_SHOWN_LOG10, 0.1],
        tickvals=[10.0**n for n in range(_LEAST_SHOWN_LOG10, 1)],
        tickformat=".3~%",
    )
    return fig


def _where(lens: LensResult, row: int) -> str:
    layer = lens.row_layers[row]
    return "in the embedding" if layer < 0 else f"after block {layer}"
