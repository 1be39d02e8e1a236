"""The map of layers by positions, and what the chosen patch does to the next token."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.attention_cache import Answer, ask
from app.attention_lab.measured import settled
from app.layer_map import LayerMap, Values, layer_map, written
from app.patching_lab import words
from app.patching_lab.asked import Scene
from app.patching_lab.measured import how, layers_of, one_patch, places_job
from app.patching_lab.selection import choice, take_place
from app.patching_lab.settings import SITES
from lens_core.patching import SweepResult
from lens_core.plots import visible

KEY = "patching_map"


def controls(sites: list[str]) -> None:
    """What is patched; ``sites`` are those that the model has."""
    choice("Patch", {name: SITES[name] for name in SITES if name in sites}, "site")


def draw(scene: Scene) -> None:
    """The map, then the chosen cell."""
    settled(places_job(scene), "Patching every place", lambda answer: _draw(scene, answer))


def _draw(scene: Scene, answer: Answer[SweepResult]) -> None:
    found = answer.result
    st.markdown(words.question_line(scene, found))
    st.caption(words.direction_line(scene))
    words.warn_of_ablation(scene)
    layers = layers_of(found)
    row = layers.index(scene.layer) if scene.layer in layers else 0
    layer_map(
        LayerMap(
            title=f"{scene.settings.site} patched, {scene.model.cfg.name}",
            label=f"{scene.settings.site} patched: layers by tokens",
            values=shown_values(scene, found),
            effects=effects(scene, found),
            rows=[f"L{layer}" for layer in layers],
            columns=[f"{i} {visible(text)}" for i, text in enumerate(scene.tokens)],
            note=lambda r, c: _note(scene, found, r, c),
            chosen=(row, scene.at),
        ),
        key=KEY,
        on_choose=lambda r, c: take_place(layers[r], c),
    )
    _cell(scene, found, row)
    st.caption(timing(answer))


def _note(scene: Scene, found: SweepResult, row: int, column: int) -> str:
    return (
        f"{scene.settings.site} of layer {found.labels['layer'][row]} at "
        f"{visible(scene.tokens[column])}: {found.metric} {found.mean[row, column]:.3f} "
        f"{found.unit}, {written(float(found.normalised_mean[row, column]), 3)} normalised"
    )


def _cell(scene: Scene, found: SweepResult, row: int) -> None:
    layer, at = layers_of(found)[row], scene.at
    st.markdown(
        f"##### {scene.settings.site} of layer {layer} at {words.token(scene.tokens[at])} "
        f"(position {at})"
    )
    value, normalised = float(found.mean[row, at]), float(found.normalised_mean[row, at])
    if np.isnan(value):
        st.caption("This token has no counterpart in the other prompt, so nothing is patched here.")
        return
    patched = ask(
        scene.model,
        one_patch,
        key=scene.key,
        site=scene.settings.site,
        layer=layer,
        position=at,
        head=None,
        **how(scene),
    ).result
    st.markdown(words.moved_line(scene, patched, value, normalised))
    words.patch_table(patched)


def shown_values(scene: Scene, found: SweepResult) -> Values:
    """What is written in the cells."""
    return found.normalised_mean if scene.settings.scale == "normalised" else found.mean


def effects(scene: Scene, found: SweepResult) -> Values:
    """How far each patch moves the run towards the other one, 1 being all the way."""
    shares = found.normalised_mean
    return shares if scene.denoising else 1 - shares


def timing(answer: Answer[SweepResult]) -> str:
    """How many runs and how long."""
    cells = answer.result.values.size
    return f"{cells} patched runs in {answer.took_ms:.0f} ms."
