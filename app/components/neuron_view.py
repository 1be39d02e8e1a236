"""How a query and a key make one attention score, dimension by dimension: Python's side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from app.components.edge import Values, joined, rounded, shown_tokens

_HTML = """
<div class="attention" data-testid="neuron-view" data-ready="false">
  <div class="title"></div>
  <div class="options" role="group" aria-label="How the dimensions are ordered"></div>
  <div class="scroller"><div class="grid" role="grid"></div></div>
  <div class="sum"></div>
  <div class="row-title"></div>
  <div class="weights" role="listbox"></div>
  <div class="tip" role="tooltip" hidden></div>
  <div class="tools"></div>
</div>
"""
_PARTS = (
    "shared_base.js",
    "shared_picture.js",
    "attention_base.js",
    "neuron_view_picture.js",
    "neuron_view.js",
)

_neuron_view = st.components.v2.component(
    "lens_lab.neuron_view",
    html=_HTML,
    css=joined("shared.css", "attention.css", "neuron_view.css"),
    js=joined(*_PARTS),
)


@dataclass(frozen=True)
class NeuronView:
    """One edge's arithmetic: ``sum(q * k) * scale + remainder`` is the score, softmax the weight.

    Attributes:
        query: [d_head], the destination's, after rotary position if the model has it.
        key: [d_head], the source's.
        scale: what the sum is multiplied with, 1/sqrt(d_head) in most models.
        remainder: what else the score holds (a position bias, a soft cap's effect).
        weights: the destination's softmax row over sources 0 to dest, [dest + 1].
    """

    tokens: Sequence[str]
    layer: int
    head: int
    dest: int
    src: int
    query: Values
    key: Values
    scale: float
    remainder: float
    score: float
    weights: Values


def neuron_view(view: NeuronView, *, key: str, on_choose: Callable[[], None]) -> None:
    """Draw it.

    When ``on_choose`` runs, ``st.session_state[key].chosen`` is an Edge, for ``read_edge``: the
    same destination with another source.
    """
    _neuron_view(key=key, data=neuron_view_data(view), on_chosen_change=on_choose)


def neuron_view_data(view: NeuronView) -> dict[str, Any]:
    """All that the browser draws.

    Raises ValueError where query and key differ in length, or the weights are not one a source.
    """
    if view.query.shape != view.key.shape or len(view.weights) != view.dest + 1:
        raise ValueError(
            f"A query of {list(view.query.shape)}, a key of {list(view.key.shape)} and "
            f"{len(view.weights)} weights are not one edge of destination {view.dest}."
        )
    query, key = np.asarray(view.query, dtype=float), np.asarray(view.key, dtype=float)
    products = query * key
    return {
        "tokens": shown_tokens(view.tokens[: view.dest + 1]),
        "layer": view.layer,
        "head": view.head,
        "dest": view.dest,
        "src": view.src,
        "query": rounded(query),
        "key": rounded(key),
        "products": rounded(products),
        "sum": round(float(products.sum()), 4),
        "scale": round(view.scale, 6),
        "remainder": round(view.remainder, 4),
        "score": round(view.score, 4),
        "weights": rounded(np.asarray(view.weights)),
    }
