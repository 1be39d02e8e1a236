"""All heads of a model as thumbnails: Python's side, which packs patterns into bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import streamlit as st

from app.components.edge import (
    Edge,
    ValueKind,
    Values,
    joined,
    lower_triangle,
    packed_bytes,
    rounded,
    shown_tokens,
)

# One prompt's thumbnails as bytes; base64 makes four thirds of it, under half a megabyte.
_MOST_BYTES = 340_000
_MOST_PIXELS = 64
_HTML = """
<div class="attention" data-testid="head-grid" data-ready="false">
  <div class="title"></div>
  <div class="options" role="group" aria-label="How the heads are shown"></div>
  <div class="definition"></div>
  <div class="legend" aria-hidden="true"></div>
  <div class="scroller"><div class="grid" role="grid"></div></div>
  <div class="tip" role="tooltip" hidden></div>
  <div class="tools"></div>
</div>
"""
_PARTS = (
    "shared_base.js",
    "shared_picture.js",
    "attention_base.js",
    "head_grid_thumbnail.js",
    "head_grid_tip.js",
    "head_grid_picture.js",
    "head_grid.js",
)

_head_grid = st.components.v2.component(
    "lens_lab.head_grid",
    html=_HTML,
    css=joined("shared.css", "attention.css", "head_grid.css"),
    js=joined(*_PARTS),
)


@dataclass(frozen=True)
class GridOptions:
    """What the learner sets in the grid itself.

    Attributes:
        order: the name of the score that sorts the heads, or "" for the model's own order.
        block: all heads of the model on one screen, small and without captions.
        lines: each head as lines from token to token instead of a matrix.
    """

    order: str = ""
    block: bool = False
    lines: bool = False


@dataclass(frozen=True)
class HeadPrompt:
    """One prompt's attention.

    Attributes:
        tokens: its T tokens.
        values: [layer, head, destination, source], shape [L, H, T, T], none negative: patterns or
            value-weighted patterns.
    """

    prompt: str
    tokens: Sequence[str]
    values: Values


@dataclass(frozen=True)
class HeadScoreColumn:
    """One number a head, shape [L, H], that can sort the grid; nan where there is none."""

    name: str
    values: Values
    definition: str = ""


@dataclass(frozen=True)
class HeadGridView:
    """What to draw.

    Attributes:
        prompts: one, or two to be seen side by side in each cell.
        kind: what the values are; of value-weighted patterns the strongest has the full colour.
        link: the head view of the same name shows at once the head that is clicked here.
    """

    title: str
    prompts: tuple[HeadPrompt, ...]
    scores: tuple[HeadScoreColumn, ...] = ()
    kind: ValueKind = "pattern"
    options: GridOptions = GridOptions()
    link: str = "heads"


def head_grid(
    view: HeadGridView,
    *,
    selected: Edge,
    key: str,
    on_choose: Callable[[], None],
    on_options: Callable[[], None] = lambda: None,
) -> None:
    """Draw the grid.

    When ``on_choose`` runs, ``st.session_state[key].chosen`` is an Edge with the new head, for
    ``read_edge``; when ``on_options`` runs, ``st.session_state[key].options`` is for
    ``read_grid_options``. A page that does not keep the options may leave that out: the browser
    keeps them until the page is left.
    """
    _head_grid(
        key=key,
        data=head_grid_data(view, selected),
        on_chosen_change=on_choose,
        on_options_change=on_options,
    )


def read_grid_options(sent: object, scores: Sequence[str]) -> GridOptions | None:
    """The options that a browser sent, or None if they are not of this grid."""
    if not isinstance(sent, Mapping):
        return None
    order = sent.get("order")
    if not isinstance(order, str) or (order and order not in scores):
        return None
    return GridOptions(
        order=order, block=sent.get("block") is True, lines=sent.get("lines") is True
    )


def head_grid_data(view: HeadGridView, selected: Edge) -> dict[str, Any]:
    """All that the browser draws; one prompt takes less than half a megabyte, whatever the model.

    Raises ValueError for a number of prompts that is neither one nor two, and for values that are
    not of shape [L, H, T, T] or that are scores, which may be negative.
    """
    if len(view.prompts) not in (1, 2) or view.kind == "scores":
        raise ValueError(
            "The grid draws one prompt or two, as patterns or value-weighted patterns."
        )
    n_layers, n_heads = view.prompts[0].values.shape[:2]
    top = _top(view)
    return {
        "title": view.title,
        "label": f"{view.title}: one row a block, one column a head. Arrow keys move, "
        "Enter opens a head.",
        "layers": n_layers,
        "heads": n_heads,
        "kind": view.kind,
        "top": round(top, 6),
        "prompts": [_prompt(prompt, top, (n_layers, n_heads)) for prompt in view.prompts],
        "scores": [
            {"name": s.name, "definition": s.definition, "values": rounded(s.values, 3)}
            for s in view.scores
        ],
        "options": asdict(view.options),
        "link": view.link,
        "selected": dict(selected),
    }


def _prompt(prompt: HeadPrompt, top: float, heads: tuple[int, int]) -> dict[str, Any]:
    n_tokens = len(prompt.tokens)
    if prompt.values.shape != (*heads, n_tokens, n_tokens):
        raise ValueError(
            f"Values for {n_tokens} tokens are [layer, head, {n_tokens}, {n_tokens}], "
            f"these are {list(prompt.values.shape)}."
        )
    small = _small(np.asarray(prompt.values))
    # Half of the 256 steps are for the weights below a quarter: most weights are small.
    shades = np.sqrt(np.clip(lower_triangle(small), 0, None) / top)
    return {
        "prompt": prompt.prompt,
        "tokens": shown_tokens(prompt.tokens),
        "pixels": small.shape[-1],
        "shades": packed_bytes(shades),
    }


def _top(view: HeadGridView) -> float:
    """The value that has the full colour."""
    if view.kind == "pattern":
        return 1.0
    highest = max(float(np.nanmax(p.values, initial=0.0)) for p in view.prompts)
    return highest if highest > 0 else 1.0


def _small(values: Values) -> Values:
    """As many pixels a side as the payload allows; each shows the strongest of its block."""
    n_layers, n_heads, n_tokens, _ = values.shape
    allowed = int(np.sqrt(2 * _MOST_BYTES / (n_layers * n_heads) + 0.25) - 0.5)
    block = -(-n_tokens // max(1, min(_MOST_PIXELS, allowed)))
    if block == 1:
        return values
    side = -(-n_tokens // block)
    room = ((0, 0), (0, 0), (0, side * block - n_tokens), (0, side * block - n_tokens))
    causal = np.pad(np.tril(np.nan_to_num(values)), room)
    pooled: Values = np.zeros((n_layers, n_heads, side, side), dtype=causal.dtype)
    for row, column in np.ndindex(block, block):
        np.maximum(pooled, causal[..., row::block, column::block], out=pooled)
    return pooled
