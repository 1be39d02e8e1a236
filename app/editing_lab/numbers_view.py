"""The edit itself in numbers: how it was found, how large it is, whom it will disturb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
import streamlit as st

from app.editing_lab import covariance_note
from app.editing_lab.asked import Scene
from app.theme import is_dark
from lens_core.editing import Edit, EditTrace, predicted_bleed
from lens_core.plots import palette, template, visible

if TYPE_CHECKING:
    import pandas as pd

_LINES = (("total", "all of the loss"), ("nll", "new answer"), ("kl", "KL"), ("decay", "size"))
_DASHES = ("solid", "dash", "dot", "dashdot")


def draw(scene: Scene) -> None:
    """The chosen edit's optimisation, its numbers with what they mean, its predicted bleed."""
    edit = scene.edit
    if edit is None:
        st.caption("There is no edit yet.")
        return
    if edit.trace.steps:
        optimisation(edit.trace, key="editing_steps")
    for line in _said(edit):
        st.markdown(line)
    if edit.trace.diagnostics:
        st.dataframe(_table(edit), hide_index=True, width="stretch")
    covariance_note.draw(scene.model, edit)
    _bleed(scene, edit)


def optimisation(trace: EditTrace, *, key: str) -> None:
    """Terms of the loss and the new answer's probability, step by step, of the first request."""
    steps = [step for step in trace.steps if step.request == 0]
    if not steps:
        return
    colors = palette(dark=is_dark())
    fig = go.Figure()
    for n, (name, label) in enumerate(_LINES):
        fig.add_scatter(
            x=[s.step for s in steps],
            y=[getattr(s, name) for s in steps],
            name=label,
            line={"color": colors.categorical[n], "dash": _DASHES[n], "width": 2},
        )
    fig.add_scatter(
        x=[s.step for s in steps],
        y=[s.p_new for s in steps],
        name="p(new)",
        yaxis="y2",
        mode="lines+markers",
        line={"color": colors.accent, "width": 3},
    )
    fig.update_layout(
        template=template(dark=is_dark()),
        title="The search for the value: loss, and probability of the new answer",
        height=300,
        legend={"orientation": "h", "yanchor": "top", "y": -0.25, "x": 0},
        yaxis={"title": "nats", "rangemode": "tozero"},
        yaxis2={
            "overlaying": "y",
            "side": "right",
            "range": [0, 1.03],
            "tickvals": [0, 0.5, 1],
            "tickmode": "array",
            "title": "p(new)",
            "showgrid": False,
        },
    )
    fig.update_xaxes(title="step")
    last = steps[-1]
    st.plotly_chart(
        fig,
        theme=None,
        key=key,
        config={"displayModeBar": False},
        alt=f"After {last.step} steps the loss is {last.total:.2f} nats and the new answer has a "
        f"probability of {last.p_new:.2f}",
    )


def _said(edit: Edit) -> list[str]:
    said = []
    for one in edit.trace.diagnostics:
        if one.request:
            continue
        share = one.delta_norm / one.weight_norm if one.weight_norm else float("nan")
        said.append(
            f"**Layer {one.layer}**: the change has {share:.1%} of the size of the matrix. The "
            f"denominator is {one.denominator:.3g}, the leverage of the key "
            f"{one.leverage:.3g}, and {one.write_fraction:.0%} of the wanted value is written."
        )
    if edit.method in ("rome", "r-rome", "p-rome", "original"):
        said.append(
            "The denominator is what the edit is divided by. Near 0 the change grows without bound "
            "and the model is lost: that can happen where two different keys meet in it."
        )
    return said


def _table(edit: Edit) -> pd.DataFrame:
    frame = edit.trace.diagnostics_frame()
    frame["share_of_weight"] = frame["delta_norm"] / frame["weight_norm"]
    return frame.dropna(axis=1, how="all").round(4)


def _bleed(scene: Scene, edit: Edit) -> None:
    if not edit.terms or len(edit.requests) > 1:
        return
    st.markdown("##### Whom will it disturb?")
    st.caption(
        "Any other prompt whose key resembles the edited one gets a share of the change: "
        "1 is all of it, 0 none. At the edited layer this is exact, and known before anything is "
        "run."
    )
    found = predicted_bleed(scene.before, edit, scene.probes)
    rows = [
        {"prompt": prompt, "share": round(float(share), 3), "at": visible(tokens[place])}
        for prompt, tokens, share, place in zip(
            found.prompts,
            found.tokens,
            found.strongest(),
            [int(s[0].abs().argmax()) for s in found.shares],
            strict=True,
        )
    ]
    st.dataframe(rows, hide_index=True, width="stretch")


def table(scene: Scene) -> pd.DataFrame:
    """The optimisation of the chosen edit, one line a step."""
    from lens_core.editing import EditingError

    if scene.edit is None:
        raise EditingError("There is no edit yet: choose *Edit* first.")
    return scene.edit.trace.to_frame()
