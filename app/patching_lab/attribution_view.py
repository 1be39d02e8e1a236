"""Every patch estimated from two runs and one gradient, beside the patches made for real."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app.attention_cache import Answer, ask
from app.attention_lab.measured import settled
from app.layer_map import LayerMap, Values, layer_map, written
from app.patching_lab import words
from app.patching_lab.asked import Scene
from app.patching_lab.measured import estimated, layers_of, places_job
from app.patching_lab.selection import choice, take_place
from app.patching_lab.settings import GRADIENTS, SITES
from app.theme import is_dark
from lens_core.bootstrap import spearman
from lens_core.patching import SweepResult
from lens_core.plots import palette, plotly_text, template, visible

KEY, _SCATTER = "patching_estimate", "patching_scatter"
IG_STEPS, _N_WORST = 8, 5


def controls(sites: list[str]) -> None:
    """What is patched, and how the gradient is taken."""
    choice("Patch", {name: SITES[name] for name in SITES if name in sites}, "site")
    choice("Estimated from", GRADIENTS, "gradient")


def draw(scene: Scene) -> None:
    """The estimated map, then the estimates against the truth."""
    scene = with_other_run(scene)
    settled(places_job(scene), "Patching every place", lambda answer: _draw(scene, answer))


def with_other_run(scene: Scene) -> Scene:
    """The scene with the other run put in: a gradient says nothing of zeros or means."""
    if scene.settings.patch_with == "other run":
        return scene
    return replace(scene, settings=replace(scene.settings, patch_with="other run"))


def estimate_of(scene: Scene) -> Answer[SweepResult]:
    """The map of layers by positions, estimated."""
    settings = scene.settings
    return ask(
        scene.model,
        estimated,
        key=scene.key,
        site=settings.site,
        direction=settings.direction,
        metric=settings.metric,
        ig_steps=IG_STEPS if settings.gradient == "integrated" else 0,
    )


def _draw(scene: Scene, answer: Answer[SweepResult]) -> None:
    true, guess = answer.result, estimate_of(scene)
    st.markdown(words.question_line(scene, true))
    passes = f"{2 * IG_STEPS + 2} passes" if scene.settings.gradient == "integrated" else "3 passes"
    st.caption(
        f"Estimated: the difference of the two runs' activations times the gradient of the metric, "
        f"{passes} of the model for all {true.values.size} cells ({guess.took_ms:.0f} ms; patching "
        f"each for real took {answer.took_ms:.0f} ms)."
    )
    layers = layers_of(true)
    row = layers.index(scene.layer) if scene.layer in layers else 0
    shares, real = guess.result.normalised_mean, true.normalised_mean
    layer_map(
        LayerMap(
            title=f"{scene.settings.site}, estimated, {scene.model.cfg.name}",
            label=f"{scene.settings.site}, estimated: layers by tokens",
            values=shares,
            effects=shares if scene.denoising else 1 - shares,
            rows=[f"L{layer}" for layer in layers],
            columns=[f"{i} {visible(text)}" for i, text in enumerate(scene.tokens)],
            note=lambda r, c: (
                f"estimated {written(float(shares[r, c]), 3)}, patched for real "
                f"{written(float(real[r, c]), 3)}"
            ),
            chosen=(row, scene.at),
        ),
        key=KEY,
        on_choose=lambda r, c: take_place(layers[r], c),
    )
    _beside(scene, shares, real, row)


def _beside(scene: Scene, shares: Values, real: Values, row: int) -> None:
    known = np.isfinite(shares) & np.isfinite(real)
    if known.sum() < 3:
        st.caption("There are too few places to compare.")
        return
    start = 0.0 if scene.denoising else 1.0
    guess, truth = shares[known] - start, real[known] - start
    st.plotly_chart(
        _scatter(scene, shares - start, real - start, row),
        theme=None,
        key=_SCATTER,
        config={"displayModeBar": False},
        alt="Points: the estimated effect of each patch against its true effect",
    )
    varies = min(guess.std(), truth.std()) > 0
    pearson = float(np.corrcoef(guess, truth)[0, 1]) if varies else 0.0
    st.markdown(
        f"Over all {len(guess)} cells: correlation **{pearson:.2f}**, rank correlation "
        f"**{spearman(guess, truth):.2f}**. The worst misses:"
    )
    st.table(_worst(scene, shares, real), border="horizontal")


def _worst(scene: Scene, shares: Values, real: Values) -> list[dict[str, str]]:
    misses = np.nan_to_num(np.abs(shares - real))
    order = np.argsort(-misses, axis=None)[:_N_WORST]
    rows, columns = np.unravel_index(order, misses.shape)
    return [
        {
            "layer": str(r),
            "token": f"{c} {words.token(scene.tokens[c])}",
            "estimated": written(float(shares[r, c])),
            "patched for real": written(float(real[r, c])),
        }
        for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def _scatter(scene: Scene, guess: Values, truth: Values, row: int) -> go.Figure:
    dark = is_dark()
    colors = palette(dark=dark)
    layer, place = (i.ravel() for i in np.indices(truth.shape))
    figure = go.Figure()
    low, high = (float(f([f(guess[np.isfinite(guess)]), f(truth[np.isfinite(truth)])]))
                 for f in (np.min, np.max))  # fmt: skip
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", name="estimate = truth", hoverinfo="skip",
        line={"dash": "dot", "width": 1, "color": colors.muted},
    )  # fmt: skip
    figure.add_scatter(
        x=truth.ravel(),
        y=guess.ravel(),
        mode="markers",
        name="cells",
        marker={"size": 7, "color": colors.accent, "opacity": 0.7},
        text=[
            f"layer {n}, {plotly_text(scene.tokens[p])}"
            for n, p in zip(layer.tolist(), place.tolist(), strict=True)
        ],
        hovertemplate="%{text}: true %{x:.2f}, estimated %{y:.2f}<extra></extra>",
    )
    figure.add_scatter(
        x=[truth[row, scene.at]],
        y=[guess[row, scene.at]],
        mode="markers",
        name="chosen",
        marker={"size": 13, "symbol": "circle-open", "color": colors.ink, "line": {"width": 2}},
        hoverinfo="skip",
    )
    figure.update_layout(
        template=template(dark=dark),
        title="Estimated and true effect of every patch",
        height=380,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )
    figure.update_xaxes(title="true effect (share of the gap)")
    figure.update_yaxes(title="estimated effect")
    return figure
