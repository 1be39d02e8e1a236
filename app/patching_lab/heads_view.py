"""The map of layers by heads, and what the chosen head's patch does to the next token."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.attention_cache import Answer, ask
from app.attention_lab.measured import settled
from app.attention_lab.parts import head_label
from app.layer_map import LayerMap, layer_map, written
from app.patching_lab import words
from app.patching_lab.asked import Scene
from app.patching_lab.measured import heads_job, how, layers_of, one_patch
from app.patching_lab.places_view import effects, shown_values, timing
from app.patching_lab.selection import choice, take_head
from app.patching_lab.settings import ALL_POSITIONS, OVER, PARTS
from app.patching_lab.wires_view import offer_wires
from lens_core.patching import SweepResult

KEY = "patching_heads"


def controls(sites: list[str]) -> None:
    """What of the heads is patched, and where."""
    left, right = st.columns(2)
    with left:
        choice("Of each head", {name: PARTS[name] for name in PARTS if name in sites}, "part")
    with right:
        choice("Patched at", OVER, "over")


def draw(scene: Scene) -> None:
    """The map, then the chosen head."""
    settled(heads_job(scene), "Patching every head", lambda answer: _draw(scene, answer))


def _draw(scene: Scene, answer: Answer[SweepResult]) -> None:
    found = answer.result
    st.markdown(words.question_line(scene, found))
    layers, heads = layers_of(found), range(len(found.labels["head"]))
    where = (
        "at every token"
        if scene.settings.over == ALL_POSITIONS
        else f"at {words.token(scene.tokens[scene.at])} (position {scene.at}) alone"
    )
    st.caption(f"{words.direction_line(scene)} Heads are patched {where}.")
    words.warn_of_ablation(scene)
    values, moved = shown_values(scene, found), effects(scene, found)
    values, moved = (v.reshape(len(layers), len(heads)) for v in (values, moved))
    what = f"{scene.settings.part} of each head patched"
    layer_map(
        LayerMap(
            title=f"{what}, {scene.model.cfg.name}",
            label=f"{what}: layers by heads",
            values=values,
            effects=moved,
            rows=[f"L{layer}" for layer in layers],
            columns=[f"H{head}" for head in heads],
            note=lambda r, c: (
                f"{head_label(layers[r], heads[c])}: {written(float(values[r, c]), 3)}"
            ),
            chosen=(scene.layer, min(scene.head, len(heads) - 1)),
        ),
        key=KEY,
        on_choose=take_head,
    )
    if len(heads) < scene.model.cfg.n_heads:
        st.caption(f"This model's heads share their keys and values: {len(heads)} a layer.")
    _head(scene, found, values, moved)
    st.caption(timing(answer))


def _head(scene: Scene, found: SweepResult, values: np.ndarray, moved: np.ndarray) -> None:
    layer, head = scene.layer, min(scene.head, values.shape[1] - 1)
    position = None if scene.settings.over == ALL_POSITIONS else scene.at
    patched = ask(
        scene.model,
        one_patch,
        key=scene.key,
        site=scene.settings.part,
        layer=layer,
        position=position,
        head=head,
        **how(scene),
    ).result
    raw = found.mean.reshape(values.shape)[layer, head]
    share = found.normalised_mean.reshape(values.shape)[layer, head]
    name = head_label(layer, head)
    st.markdown(f"##### {scene.settings.part} of {name}")
    st.markdown(words.moved_line(scene, patched, float(raw), float(share)))
    words.patch_table(patched)
    offer_wires(layer, head, scene.settings.part)
    best = np.unravel_index(int(np.nanargmax(np.abs(np.nan_to_num(moved)))), moved.shape)
    strongest = head_label(int(best[0]), int(best[1]))
    st.caption(
        f"The head that moves the answer most by itself is {strongest} "
        f"({written(float(values[best]))})."
    )
