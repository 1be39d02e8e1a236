"""The loss on random tokens and on the same tokens again, with and without the chosen head."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

from app.attention_cache import Answer, Block, begin
from app.attention_lab.asked import Scene
from app.attention_lab.measured import settled
from app.attention_lab.parts import head_label
from app.jobs import Job
from app.theme import is_dark
from lens_core.attention.induction import InductionCurve, induction_curve
from lens_core.plots import palette, template


def curve_job(scene: Scene) -> Job[Answer[InductionCurve]]:
    """The curve with the chosen head's attention blocked."""
    block = Block(scene.edge["layer"], scene.edge["head"])
    return begin(scene.model, induction_curve, seed=scene.settings.seed, interventions=(block,))


def draw(scene: Scene) -> None:
    """Two lines over both copies, and what the head is worth in each."""
    settled(curve_job(scene), "Reading random tokens twice", lambda answer: _curve(scene, answer))


def _curve(scene: Scene, answer: Answer[InductionCurve]) -> None:
    found = answer.result
    assert found.after is not None
    name = head_label(scene.edge["layer"], scene.edge["head"])
    st.plotly_chart(
        loss_figure(found, name, dark=is_dark()),
        theme=None,
        key="repeat_curve",
        config={"displayModeBar": False},
        alt="Lines: loss by place in the first copy and in the second, with and without the head",
    )
    first, second = found.effect(1), found.effect(2)
    drop = found.before.drop
    st.markdown(
        f"The second copy costs **{drop.value:.2f}** nats a token less than the first (95% "
        f"{drop.low:.2f} to {drop.high:.2f}). Without {name} the first copy's loss moves by "
        f"**{first.value:+.2f}** nats ({first.low:+.2f} to {first.high:+.2f}) and the second's by "
        f"**{second.value:+.2f}** ({second.low:+.2f} to {second.high:+.2f})."
    )
    st.caption(
        f"{found.n_sequences} sequences of 2 x {found.half} random tokens, seed {found.seed}; "
        f"intervals over sequences. Dotted: {found.uniform_nats:.2f} nats, every token equally "
        "likely. The first token of the second copy is left out of the means: nothing predicts it. "
        "One head of several that do the same may be missed without loss."
    )


def loss_figure(found: InductionCurve, name: str, *, dark: bool = False) -> go.Figure:
    """Loss in nats by place, copy after copy, as the model is and without the head."""
    colors = palette(dark=dark)
    figure = go.Figure()
    lines = [("as it is", found.before, colors.accent)]
    if found.after is not None:
        lines.append((f"without {name}", found.after, colors.categorical[1]))
    places = list(range(2 * found.half))
    for label, curve, color in lines:
        figure.add_scatter(
            x=places,
            y=curve.mean.ravel(),
            name=label,
            mode="lines+markers",
            marker={"size": 4},
            line={"color": color, "width": 2},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (curve.high - curve.mean).ravel(),
                "arrayminus": (curve.mean - curve.low).ravel(),
                "thickness": 1,
                "width": 0,
            },
            hovertemplate=f"%{{y:.2f}} nats, {label}<extra></extra>",
        )
    figure.add_hline(y=found.uniform_nats, line={"dash": "dot", "width": 1, "color": colors.muted})
    figure.add_vline(x=found.half - 0.5, line={"width": 1, "color": colors.muted})
    figure.update_layout(
        template=template(dark=dark),
        title="Loss on random tokens, and on the same again",
        height=340,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
    figure.update_xaxes(title="place: the first copy, then the second")
    figure.update_yaxes(title="nats", rangemode="tozero")
    return figure
