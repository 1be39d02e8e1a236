"""The wires that path patching found, drawn on the model: parts as dots, block above block."""

from __future__ import annotations

import math
import re

import numpy as np
import plotly.graph_objects as go

from lens_core.patching import PathResult
from lens_core.plots.palette import Palette, palette
from lens_core.plots.template import MONO_FONT, template
from lens_core.plots.tokens import plotly_text

# Wires that carry less than this share of the way are not drawn: rounding would draw a few.
SMALLEST = 0.005
# Where nothing carries as much as this share, the thickest wire is thinner than it could be.
_FULL_WIDTH_FROM = 0.2
_THINNEST_PX, _THICKEST_PX = 1.2, 10.0
_ROW_PX, _MAX_PX = 46, 900
_BEND = np.linspace(0, 1, 24)
_PART = re.compile(r"(\d+)\.(\d+)(?:\.([qkv]))?")
_INPUT_AT = {"q": -0.42, "k": 0.0, "v": 0.42}
Point = tuple[float, float]


def wire_label(name: str) -> str:
    """A part of `path_patching` as the lab writes it.

    >>> [wire_label(name) for name in ("2.0", "2.0.k", "mlp 3", "embed", "logits")]
    ['L2H0', 'K of L2H0', 'MLP 3', 'embeddings', 'logits']
    """
    head = _PART.fullmatch(name)
    if head is None:
        return {"embed": "embeddings"}.get(name, name.replace("mlp", "MLP"))
    label = f"L{head[1]}H{head[2]}"
    return label if head[3] is None else f"{head[3].upper()} of {label}"


def wire_graph(
    found: PathResult,
    *,
    n_layers: int,
    n_heads: int,
    n_wires: int = 10,
    chosen: tuple[str, str] | None = None,
    title: str = "The strongest wires",
    dark: bool = False,
) -> go.Figure:
    """The strongest wires from senders to receivers, as wide as their effect.

    Wires towards the other run are whole and teal, those away from it dashed and orange.

    Args:
        chosen: a sender and a receiver whose wire is drawn whatever it carries, its sender ringed.
        n_wires: how many of the strongest; of those below `SMALLEST` none.
    """
    colors = palette(dark=dark)
    moved = {
        (sender, receiver): float(found.moved[i, j])
        for i, sender in enumerate(found.senders)
        for j, receiver in enumerate(found.receivers)
    }
    drawn = [wire for wire in found.strongest(n_wires) if abs(moved[wire]) >= SMALLEST]
    if chosen in moved and chosen not in drawn and not math.isnan(moved[chosen]):
        drawn.append(chosen)
    full = max([_FULL_WIDTH_FROM, *(abs(moved[wire]) for wire in drawn)])
    fig = go.Figure()
    _draw_parts(fig, n_layers, n_heads, colors)
    for wire in reversed(drawn):  # the strongest last, on top
        ends = (
            _place(wire[0], n_layers, n_heads, reads=False),
            _place(wire[1], n_layers, n_heads, reads=True),
        )
        _draw_wire(fig, ends, moved[wire] / full, colors)
    _draw_senders(fig, drawn, moved, (n_layers, n_heads), colors, chosen)
    _draw_receivers(fig, found.receivers, (n_layers, n_heads), colors)
    _legend(fig, colors)
    fig.update_layout(
        template=template(dark=dark),
        title=plotly_text(title),
        height=min(_MAX_PX, 120 + _ROW_PX * (n_layers + 2)),
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        margin={"b": 64},
    )
    columns = [*(f"H{head}" for head in range(n_heads)), "MLP"]
    every = max(1, math.ceil(n_heads / 16))
    shown = [*range(0, n_heads, every), n_heads]
    fig.update_xaxes(
        tickvals=shown, ticktext=[columns[i] for i in shown], showgrid=False, zeroline=False,
        range=[-0.8, n_heads + 0.8],
    )  # fmt: skip
    fig.update_yaxes(
        tickvals=list(range(-1, n_layers + 1)),
        ticktext=["embeddings", *(f"block {n}" for n in range(n_layers)), "logits"],
        showgrid=False, zeroline=False, range=[-1.6, n_layers + 0.6],
    )  # fmt: skip
    return fig


def _place(name: str, n_layers: int, n_heads: int, *, reads: bool) -> Point:
    """Where a part stands: heads and MLP side by side, a head's inputs below it."""
    head = _PART.fullmatch(name)
    if head is not None:
        x, y = float(head[2]), float(head[1])
        return (x + _INPUT_AT[head[3]], y - 0.3) if head[3] else (x, y)
    if name.startswith("mlp"):
        return float(n_heads), float(name.split()[1]) + (0.0 if reads else 0.3)
    return n_heads / 2, -1.0 if name == "embed" else float(n_layers)


def _draw_parts(fig: go.Figure, n_layers: int, n_heads: int, colors: Palette) -> None:
    names = [f"{layer}.{head}" for layer in range(n_layers) for head in range(n_heads)]
    names += [f"mlp {layer}" for layer in range(n_layers)]
    places = [_place(name, n_layers, n_heads, reads=True) for name in names]
    fig.add_scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="markers",
        marker={"size": 5, "color": colors.line},
        text=[wire_label(name) for name in names],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _draw_wire(fig: go.Figure, ends: tuple[Point, Point], share: float, colors: Palette) -> None:
    (x0, y0), (x1, y1) = ends
    ease = 3 * _BEND**2 - 2 * _BEND**3  # leaves upwards and arrives upwards
    fig.add_scatter(
        x=x0 + (x1 - x0) * ease,
        y=y0 + (y1 - y0) * _BEND,
        mode="lines",
        line={
            "width": max(_THINNEST_PX, _THICKEST_PX * abs(share)),
            "color": _color(share, colors),
            "dash": "solid" if share >= 0 else "dash",
        },
        opacity=0.85,
        hoverinfo="skip",
        showlegend=False,
    )


def _draw_senders(
    fig: go.Figure,
    wires: list[tuple[str, str]],
    moved: dict[tuple[str, str], float],
    size: tuple[int, int],
    colors: Palette,
    chosen: tuple[str, str] | None,
) -> None:
    names = list(dict.fromkeys(sender for sender, _ in wires))
    places = [_place(name, *size, reads=False) for name in names]
    notes = [
        "<br>".join(
            f"{wire_label(s)} to {wire_label(r)}: {moved[s, r]:+.3f}" for s, r in wires if s == name
        )
        for name in names
    ]
    fig.add_scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="markers+text",
        marker={
            "size": 9,
            "color": colors.ink,
            "line": {
                "width": [3 * (chosen is not None and n == chosen[0]) for n in names],
                "color": colors.accent,
            },
        },
        text=[wire_label(name) for name in names],
        textposition="bottom center",
        textfont={"family": MONO_FONT, "size": 11, "color": colors.ink},
        customdata=notes,
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _draw_receivers(
    fig: go.Figure, receivers: tuple[str, ...], size: tuple[int, int], colors: Palette
) -> None:
    places = [_place(name, *size, reads=True) for name in receivers]
    parts = [_PART.fullmatch(name) for name in receivers]
    fig.add_scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="markers+text",
        marker={
            "size": 15,
            "symbol": "square",
            "color": colors.panel,
            "line": {"width": 1.5, "color": colors.ink},
        },
        text=[part[3].upper() if part else "" for part in parts],
        textfont={"family": MONO_FONT, "size": 10, "color": colors.ink},
        customdata=[wire_label(name) for name in receivers],
        hovertemplate="%{customdata}<extra></extra>",
        name="reads",
    )


def _legend(fig: go.Figure, colors: Palette) -> None:
    for share, name in ((1.0, "towards the other run"), (-1.0, "away from it")):
        fig.add_scatter(
            x=[None], y=[None], mode="lines", name=name,
            line={"width": 4, "color": _color(share, colors),
                  "dash": "solid" if share > 0 else "dash"},
        )  # fmt: skip


def _color(share: float, colors: Palette) -> str:
    return colors.diverging[-2] if share >= 0 else colors.diverging[1]
