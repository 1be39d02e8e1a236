"""Figures of an attribution: who wrote the answer, from which tokens, and what goes without whom.

All values are logits: up, or right, is for the target, and down, or left, against it. Where colour
does not tell parts apart, teal is for and orange against.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lens_core.attribution import (
    Ablation,
    Accumulated,
    DirectAttribution,
    NeuronAttribution,
    Part,
    Question,
    SourceAttribution,
)
from lens_core.attribution.result import Array
from lens_core.plots.palette import Palette, palette
from lens_core.plots.template import MONO_FONT, colorscale, template
from lens_core.plots.tokens import plotly_text

_ROW_PX = 24
# Name of a group of parts: its kinds, and its place among the categorical colours.
_GROUPS: dict[str, tuple[tuple[str, ...], int]] = {
    "embeddings": (("embed", "pos_embed"), 3),
    "attention": (("head", "attn_bias", "attn"), 0),
    "MLP": (("mlp",), 2),
    "whole block": (("block",), 4),
    "your edits": (("edit",), 5),
    "biases and soft-cap": (("norm_bias", "unembed_bias", "soft_cap"), 7),
}


def component_bars(found: DirectAttribution, *, dark: bool = False) -> go.Figure:
    """Every part, stacked by layer: embeddings, then each block's heads and MLP, then the biases.

    Parts for the target stack up from zero and parts against it down, so nothing cancels unseen;
    the line is what each column comes to. A click gives layer and head in ``customdata``.
    """
    colors = palette(dark=dark)
    columns = ["embed", *(str(layer) for layer in range(found.n_layers)), "bias"]
    fig = go.Figure()
    for name, (kinds, n) in _GROUPS.items():
        parts = [part for part in found.parts if part.kind in kinds]
        if not parts:
            continue
        fig.add_bar(
            x=[_column(part, found.n_layers) for part in parts],
            y=[part.value for part in parts],
            customdata=[[part.label, part.layer, part.head] for part in parts],
            name=name,
            marker={
                "color": colors.categorical[n],
                "line": {"color": colors.background, "width": 0.5},
                "pattern": {"shape": "/" if name == "MLP" else ""},
            },
            hovertemplate="%{customdata[0]}: %{y:+.3f}<extra></extra>",
        )
    net = np.zeros(len(columns))
    for part in found.parts:
        net[_column(part, found.n_layers)] += part.value
    fig.add_scatter(
        x=np.arange(len(columns)),
        y=net,
        mode="markers",
        name="sum",
        marker={"symbol": "line-ew-open", "size": 16, "color": colors.ink, "line": {"width": 2}},
        hovertemplate="sum: %{y:+.3f}<extra></extra>",
    )
    fig.update_layout(
        template=template(dark=dark),
        title=f"Who wrote the {_asked(found.question)}",
        barmode="relative",
        bargap=0.25,
        height=380,
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
    )
    fig.update_xaxes(
        tickvals=list(range(len(columns))), ticktext=columns, title="block", showgrid=False
    )
    fig.update_yaxes(title="logits", zeroline=True)
    return fig


def head_heatmap(
    values: Array, *, title: str, label: str = "logits", dark: bool = False
) -> go.Figure:
    """Layers by heads, such as ``by_head`` or an effect of ablation; the scale is centred on zero.

    Args:
        values: [n_layers, n_heads]; NaN cells stay empty.
        label: what the values are, for the scale.
    """
    colors = palette(dark=dark)
    n_layers, n_heads = values.shape
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    written = [["" if np.isnan(v) else f"{v:+.2f}" for v in row] for row in values]
    fig = go.Figure(
        go.Heatmap(
            z=values,
            zmin=-largest,
            zmax=largest,
            text=written if n_heads <= 16 else None,
            texttemplate="%{text}" if n_heads <= 16 else None,
            textfont={"family": MONO_FONT, "size": 11},
            colorscale=colorscale(colors.diverging),
            xgap=2,
            ygap=2,
            hovertemplate="L%{y}H%{x}: %{z:+.3f}<extra></extra>",
            colorbar={
                "title": {"text": label, "side": "right"},
                "outlinewidth": 0,
                "thickness": 12,
            },
        )
    )
    fig.update_layout(
        template=template(dark=dark), title=plotly_text(title), height=130 + _ROW_PX * n_layers
    )
    fig.update_xaxes(title="head", dtick=1, showgrid=False, zeroline=False)
    fig.update_yaxes(title="block", dtick=1, showgrid=False, zeroline=False)
    return fig


def source_bars(found: SourceAttribution, *, dark: bool = False) -> go.Figure:
    """How much a head attended to each token (left), and what it brought from there (right)."""
    colors = palette(dark=dark)
    n = found.question.position + 1
    places, values = list(range(n)), found.values[:n]
    fig = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.06, column_widths=[0.35, 0.65]
    )
    sides = (
        (found.weights[:n], [colors.muted] * n, "attention %{x:.3f}<extra></extra>"),
        (values, _signed(values, colors), "%{x:+.3f} logits<extra></extra>"),
    )
    for column, (x, color, hover) in enumerate(sides, start=1):
        bar = go.Bar(x=x, y=places, orientation="h", marker={"color": color}, hovertemplate=hover)
        fig.add_trace(bar, row=1, col=column)
    fig.update_layout(
        template=template(dark=dark),
        title=f"L{found.layer}H{found.head}: from which tokens ({found.value:+.2f} in all)",
        height=110 + _ROW_PX * n,
        showlegend=False,
    )
    fig.update_xaxes(title="attention", range=[0, 1], tickvals=[0, 0.5, 1], col=1)
    fig.update_xaxes(title="brought to the answer, logits", zeroline=True, col=2)
    _label_rows(fig, [found.question.tokens[place] for place in places])
    return fig


def waterfall(found: DirectAttribution, *, dark: bool = False) -> go.Figure:
    """The answer as it builds up in the residual stream, component by component, to its value."""
    colors = palette(dark=dark)
    steps = found.by_component
    # The biases first: the bars then climb in the order of the network and end at the answer.
    order = [c for c in steps if _is_constant(c)] + [c for c in steps if not _is_constant(c)]
    fig = go.Figure(
        go.Waterfall(
            x=list(range(len(order) + 1)),
            y=[*(steps[c] for c in order), 0],
            measure=["relative"] * len(order) + ["total"],
            connector={"line": {"color": colors.line, "width": 1}},
            increasing={"marker": {"color": colors.diverging[-2]}},
            decreasing={"marker": {"color": colors.diverging[1]}},
            totals={"marker": {"color": colors.muted}},
            customdata=[*order, "sum of the parts"],
            hovertemplate="%{customdata}: %{delta:+.3f}, now %{y:.3f}<extra></extra>",
        )
    )
    fig.update_layout(
        template=template(dark=dark),
        title=f"How the {_asked(found.question)} builds up",
        height=380,
        showlegend=False,
    )
    fig.update_xaxes(
        tickvals=list(range(len(order) + 1)),
        ticktext=[*order, "sum"],
        tickangle=-60,
        showgrid=False,
    )
    fig.update_yaxes(title="logits", zeroline=True)
    return fig


def accumulated_lines(found: Accumulated, *, dark: bool = False) -> go.Figure:
    """The answer read after each attention and MLP: through the last norm, and the state's own."""
    colors = palette(dark=dark)
    x = list(range(len(found.labels)))
    fig = go.Figure()
    for name, values, dash, symbol, color in (
        ("last norm, held fixed", found.frozen, "solid", "circle", colors.categorical[0]),
        ("own norm: logit lens", found.own_norm, "dash", "square", colors.categorical[1]),
    ):
        fig.add_scatter(
            x=x,
            y=values,
            mode="lines+markers",
            name=name,
            line={"color": color, "dash": dash},
            marker={"symbol": symbol, "size": 6},
            hovertemplate="%{fullData.name}: %{y:.3f}<extra></extra>",
        )
    fig.update_layout(
        template=template(dark=dark),
        title=f"{_asked(found.question, capital=True)}, after each part",
        height=360,
        hovermode="x unified",
        legend={"orientation": "h", "yanchor": "top", "y": -0.3, "x": 0},
    )
    fig.update_xaxes(tickvals=x, ticktext=list(found.labels), tickangle=-60)
    fig.update_yaxes(title="logits", zeroline=True)
    return fig


def neuron_bars(found: NeuronAttribution, *, dark: bool = False) -> go.Figure:
    """The neurons of one MLP that wrote most, the others together, and the bias."""
    colors = palette(dark=dark)
    labels = [*(f"neuron {n}" for n in found.neurons), f"{found.n_others} others", "bias"]
    values = np.array([*found.values, found.others, found.bias])
    notes = [*(f"active at {a:.2f}" for a in found.activations), "", ""]
    fig = go.Figure(
        go.Bar(
            x=values,
            y=list(range(len(labels))),
            orientation="h",
            customdata=notes,
            marker={"color": _signed(values, colors)},
            hovertemplate="%{x:+.3f} logits %{customdata}<extra></extra>",
        )
    )
    fig.update_layout(
        template=template(dark=dark),
        title=f"MLP {found.layer}: which neurons ({found.value:+.2f} in all)",
        height=100 + _ROW_PX * len(labels),
        showlegend=False,
    )
    fig.update_xaxes(title="logits", zeroline=True)
    _label_rows(fig, labels)
    return fig


def effect_bars(found: Ablation, *, dark: bool = False) -> go.Figure:
    """The effects of one ablation side by side: total, direct, indirect."""
    colors = palette(dark=dark)
    values = np.array([found.total_effect, found.direct_effect, found.indirect_effect])
    labels = ["total", "direct", "indirect"]
    fig = go.Figure(
        go.Bar(
            x=values,
            y=list(range(3)),
            orientation="h",
            marker={"color": _signed(values, colors)},
            text=[f"{value:+.2f}" for value in values],
            textposition="outside",
            textfont={"family": MONO_FONT, "size": 12},
            cliponaxis=False,
            hoverinfo="skip",
        )
    )
    fig.update_layout(
        template=template(dark=dark),
        title=f"Change of the {_asked(found.question)}",
        height=190,
        showlegend=False,
    )
    reach = 1.35 * float(np.abs(values).max(initial=1e-9))
    low, high = (reach if (values < 0).any() else 0.1 * reach), reach
    fig.update_xaxes(title="logits", zeroline=True, range=[-low, high])
    _label_rows(fig, labels)
    return fig


def _asked(question: Question, *, capital: bool = False) -> str:
    """The question with its tokens as a reader can tell them apart."""
    logit = "Logit" if capital else "logit"
    text = f"{logit} of {plotly_text(question.target_text)}"
    return text if question.foil_text is None else f"{text} minus {plotly_text(question.foil_text)}"


def _column(part: Part, n_layers: int) -> int:
    if part.layer is not None:
        return part.layer + 1
    return 0 if part.kind in ("embed", "pos_embed") else n_layers + 1


def _is_constant(component: str) -> bool:
    return component in ("norm bias", "unembed bias", "soft cap")


def _signed(values: Array, colors: Palette) -> list[str]:
    return [colors.diverging[-2] if value >= 0 else colors.diverging[1] for value in values]


def _label_rows(fig: go.Figure, labels: list[str]) -> None:
    """Numbered places with texts as labels: a token that occurs twice keeps two bars."""
    fig.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=[plotly_text(label) for label in labels],
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
    )
