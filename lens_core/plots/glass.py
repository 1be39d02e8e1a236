"""The answer of the glass model before and after a change."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from lens_core.plots.palette import palette
from lens_core.plots.template import MONO_FONT, template
from lens_core.plots.tokens import plotly_text


def before_after(
    tokens: Sequence[str], before: Sequence[float], after: Sequence[float], *, dark: bool = False
) -> go.Figure:
    """Probability of each next token as the model was made and as it is now, bars side by side.

    Args:
        tokens: the vocabulary; before, after: a probability for each.

    Example:
        >>> before_after(["ant", "bee"], [0.1, 0.9], [0.5, 0.5]).layout.title.text
        'The next token, before and after the change'
    """
    colors = palette(dark=dark)
    figure = go.Figure()
    named = (("as made", before, colors.muted), ("now", after, colors.accent))
    for name, values, color in named:
        figure.add_bar(
            y=[plotly_text(token) for token in tokens],
            x=list(values),
            name=name,
            orientation="h",
            marker_color=color,
            text=[f"{value:.2f}" for value in values],
            textposition="outside",
            textfont={"family": MONO_FONT, "size": 11},
            cliponaxis=False,
            hovertemplate=f"%{{y}}, {name}: %{{x:.3f}}<extra></extra>",
        )
    figure.update_layout(
        template=template(dark=dark),
        title="The next token, before and after the change",
        height=80 + 44 * len(tokens),
        bargap=0.3,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        xaxis={"range": [0, 1.08], "title": "probability", "tickformat": ".1f"},
        yaxis={"autorange": "reversed"},
    )
    return figure
