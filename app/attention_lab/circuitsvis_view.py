"""The chosen layer's heads drawn by CircuitsVis, from its own wheel, within its limits."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import streamlit as st

from app.attention_lab.asked import Scene
from app.attention_lab.grid_view import shown
from app.attention_lab.parts import head_label
from app.components.circuitsvis import (
    MOST_HEADS,
    MOST_TOKENS,
    AttentionHeads,
    attention_heads_html,
)
from lens_core.plots import visible

_HEIGHT_PX = 960


def draw(scene: Scene) -> None:
    """The layer's heads, or what is too large about them."""
    attention, layer = shown(scene), scene.edge["layer"]
    if attention.n_heads > MOST_HEADS or len(attention.tokens) > MOST_TOKENS:
        st.info(
            f"CircuitsVis becomes slow beyond {MOST_HEADS} heads or {MOST_TOKENS} tokens; this "
            f"layer has {attention.n_heads} heads on {len(attention.tokens)} tokens. The other "
            "drawings have no such limit."
        )
        return
    data = AttentionHeads(
        tokens=[visible(token) for token in attention.tokens],
        pattern=attention.pattern[layer],
        names=[head_label(layer, head) for head in range(attention.n_heads)],
    )
    try:
        page = attention_heads_html(data)
    except PackageNotFoundError:
        st.info("This drawing needs the package circuitsvis; the others do not.")
        return
    st.iframe(page, height=_HEIGHT_PX, alt=f"Attention heads of layer {layer}, by CircuitsVis")
    st.caption("Drawn by CircuitsVis (Alan Cooney and others, MIT); it shows patterns only.")
