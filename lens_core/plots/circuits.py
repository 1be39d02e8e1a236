"""Figures of circuits: the graph by layers, and circuits by size and faithfulness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from lens_core.circuits import Circuit, Node, node_name
from lens_core.circuits.scores import Faithfulness
from lens_core.plots.palette import palette
from lens_core.plots.template import MONO_FONT, template
from lens_core.plots.tokens import plotly_text

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "hexagon", "star", "cross", "pentagon")
_ROW_PX, _WIDEST_LINE = 62, 7.0


@dataclass(frozen=True)
class CircuitEdge:
    """An edge to draw.

    Attributes:
        sender: None for the embeddings; receiver: None for the logits.
        way: by which input of the receiver, such as "q, v"; empty where it has but one.
        effect: what the answer owes to it, below 0 where it works against the answer.
    """

    sender: Node | None
    receiver: Node | None
    way: str
    effect: float


def circuit_graph(
    circuit: Circuit,
    *,
    edges: Sequence[CircuitEdge] = (),
    notes: Mapping[Node, str] | None = None,
    dark: bool = False,
) -> go.Figure:
    """The nodes of a circuit by layer, the embeddings below and the logits above.

    Colour and shape tell the role. The width of an edge is its effect relative to the strongest;
    teal edges are for the answer, orange ones against it.

    Args:
        notes: what is said of a node on hover.
    """
    colors = palette(dark=dark)
    places, layers = _places(circuit), sorted({layer for layer, _ in circuit.nodes})
    top = float(len(layers))
    figure = go.Figure()
    strongest = max((abs(edge.effect) for edge in edges), default=1.0) or 1.0
    for edge in sorted(edges, key=lambda e: abs(e.effect)):
        color = colors.accent if edge.effect >= 0 else colors.categorical[1]
        start = (0.5, -0.8) if edge.sender is None else places[edge.sender]
        end = (0.5, top - 0.2) if edge.receiver is None else places[edge.receiver]
        _edge(figure, edge, start, end, strongest, color)
    for i, (role, nodes) in enumerate(circuit.roles.items()):
        if not nodes:
            continue
        figure.add_scatter(
            x=[places[node][0] for node in nodes],
            y=[places[node][1] for node in nodes],
            mode="markers+text",
            name=plotly_text(role),
            text=[node_name(node) for node in nodes],
            textposition="bottom center",
            textfont={"family": MONO_FONT, "size": 11},
            marker={
                "size": 17,
                "symbol": _SYMBOLS[i % len(_SYMBOLS)],
                "color": colors.categorical[i % len(colors.categorical)],
                "line": {"color": colors.background, "width": 1.5},
            },
            hovertext=[plotly_text((notes or {}).get(node, node_name(node))) for node in nodes],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.add_scatter(
        x=[0.5, 0.5],
        y=[-1.0, top],
        mode="text",
        text=["embeddings", "logits"],
        showlegend=False,
        hoverinfo="skip",
        textfont={"size": 14, "color": colors.muted},
    )
    figure.update_layout(
        template=template(dark=dark),
        title=plotly_text(f"{circuit.name}: {circuit.size} nodes by layer"),
        height=max(340, 230 + _ROW_PX * len(layers)),
        legend={"orientation": "h", "yanchor": "top", "y": -0.02, "x": 0},
    )
    figure.update_xaxes(visible=False, range=[-0.08, 1.08])
    figure.update_yaxes(
        tickvals=list(range(len(layers))),
        ticktext=[f"block {layer}" for layer in layers],
        showgrid=False,
        zeroline=False,
        range=[-1.4, top + 0.4],
    )
    return figure


def circuit_points(
    scores: Sequence[tuple[str, str, Faithfulness]], *, dark: bool = False
) -> go.Figure:
    """Circuits by size and by the share of the model's measure that they keep, with intervals.

    Args:
        scores: name, kind (such as "yours" or "control") and score of each.
    """
    colors = palette(dark=dark)
    figure = go.Figure()
    figure.add_hline(y=1, line={"color": colors.muted, "width": 1, "dash": "dot"})
    for i, kind in enumerate(dict.fromkeys(kind for _, kind, _ in scores)):
        own = [(name, score) for name, its, score in scores if its == kind]
        ratio = [score.ratio for _, score in own]
        figure.add_scatter(
            x=[score.size for _, score in own],
            y=[float(r.value) for r in ratio],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [float(r.high - r.value) for r in ratio],
                "arrayminus": [float(r.value - r.low) for r in ratio],
                "thickness": 1,
            },
            mode="markers",
            name=kind,
            text=[plotly_text(name) for name, _ in own],
            marker={
                "size": 11,
                "symbol": _SYMBOLS[i % len(_SYMBOLS)],
                "color": colors.categorical[i % len(colors.categorical)],
            },
            hovertemplate="%{text}: %{x} nodes, %{y:.0%} of the model<extra></extra>",
        )
    figure.update_layout(
        template=template(dark=dark),
        title="Circuits by size and faithfulness",
        height=360,
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
    )
    figure.update_xaxes(title="nodes", rangemode="tozero")
    figure.update_yaxes(title="F(C) / F(M)", tickformat=".0%", zeroline=True)
    return figure


def _places(circuit: Circuit) -> dict[Node, tuple[float, float]]:
    """Where the nodes stand: a row a layer, layers without a node taking no room."""
    places: dict[Node, tuple[float, float]] = {}
    for y, layer in enumerate(sorted({layer for layer, _ in circuit.nodes})):
        row = [node for node in circuit.nodes if node[0] == layer]
        # Rows are shifted in turn, so that edges do not run along other nodes.
        shift = (0.25 if y % 2 else -0.25) / (len(row) + 1)
        for i, node in enumerate(row, start=1):
            places[node] = (i / (len(row) + 1) + shift, float(y))
    return places


def _edge(
    figure: go.Figure,
    edge: CircuitEdge,
    start: tuple[float, float],
    end: tuple[float, float],
    strongest: float,
    color: str,
) -> None:
    sender = "embeddings" if edge.sender is None else node_name(edge.sender)
    receiver = "logits" if edge.receiver is None else node_name(edge.receiver)
    way = f" ({edge.way})" if edge.way else ""
    share = abs(edge.effect) / strongest
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)  # where the mouse finds it
    figure.add_scatter(
        x=[start[0], middle[0], end[0]],
        y=[start[1], middle[1], end[1]],
        mode="lines",
        line={"color": color, "width": max(1.0, _WIDEST_LINE * share)},
        opacity=0.35 + 0.45 * share,
        showlegend=False,
        hovertemplate=f"{sender} to {receiver}{way}: {edge.effect:+.2f}<extra></extra>",
    )
