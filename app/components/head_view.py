"""One head seen large, as a matrix or as lines: Python's side."""

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
    index,
    joined,
    lower_triangle,
    rounded,
    shown_tokens,
)

MOST_LINE_TOKENS = 25
_HTML = """
<div class="attention" data-testid="head-view" data-ready="false">
  <div class="title" role="status"></div>
  <div class="options" role="group" aria-label="How the head is shown"></div>
  <div class="legend" aria-hidden="true"></div>
  <div class="strip"></div>
  <div class="stage"></div>
  <div class="readout" role="status"></div>
  <div class="tip" role="tooltip" hidden></div>
  <div class="tools"></div>
</div>
"""
_PARTS = (
    "shared_base.js",
    "shared_picture.js",
    "attention_base.js",
    "head_view_edges.js",
    "head_view_strip.js",
    "head_view_matrix.js",
    "head_view_lines.js",
    "head_view_picture.js",
    "head_view_acts.js",
    "head_view.js",
)

_head_view = st.components.v2.component(
    "lens_lab.head_view",
    html=_HTML,
    css=joined("shared.css", "attention.css", "head_view.css"),
    js=joined(*_PARTS),
)


@dataclass(frozen=True)
class HeadOptions:
    """What the learner sets in the view itself.

    Attributes:
        lines: lines from token to token instead of the matrix, for up to 25 tokens.
        mass: only the strongest edges of each destination that hold this share of what is shown;
            1 shows all. Scores before the softmax have no such share.
        swap: sources in the rows and destinations in the columns.
        bos: the start token is shown.
        heads: further heads of the layer that the lines draw beside the chosen one, each in its
            colour.
    """

    lines: bool = False
    mass: float = 1.0
    swap: bool = False
    bos: bool = True
    heads: tuple[int, ...] = ()


@dataclass(frozen=True)
class HeadView:
    """What to draw.

    Attributes:
        values: [head, destination, source] of one layer, shape [H, T, T]; masked cells may be nan.
        kind: what they are; patterns and value-weighted patterns are not negative, scores may be.
        has_bos: the first token is the start token.
        next_tokens: the best guess after each token, or none.
        next_probs: their probabilities.
        link: the head grid of the same name shows here at once the head that is clicked there.
    """

    title: str
    prompt: str
    tokens: Sequence[str]
    layer: int
    head: int
    values: Values
    kind: ValueKind = "pattern"
    has_bos: bool = True
    next_tokens: Sequence[str] = ()
    next_probs: Sequence[float] = ()
    options: HeadOptions = HeadOptions()
    link: str = "heads"


def head_view(
    view: HeadView,
    *,
    selected: Edge,
    key: str,
    on_choose: Callable[[], None],
    on_options: Callable[[], None] = lambda: None,
) -> None:
    """Draw it.

    When ``on_choose`` runs, ``st.session_state[key].chosen`` is an Edge, for ``read_edge``; when
    ``on_options`` runs, ``st.session_state[key].options`` is for ``read_head_options``. A page that
    does not keep the options may leave that out: the browser keeps them until the page is left.
    """
    _head_view(
        key=key,
        data=head_view_data(view, selected),
        on_chosen_change=on_choose,
        on_options_change=on_options,
    )


def read_head_options(sent: object, n_heads: int) -> HeadOptions | None:
    """The options that a browser sent, or None if they are not of this view."""
    if not isinstance(sent, Mapping):
        return None
    mass, heads = sent.get("mass"), sent.get("heads")
    if isinstance(mass, bool) or not isinstance(mass, int | float) or not 0 < mass <= 1:
        return None
    if not isinstance(heads, list | tuple):
        return None
    chosen = sorted({index(head) for head in heads[:n_heads]})
    if chosen and not 0 <= chosen[0] <= chosen[-1] < n_heads:
        return None
    flags = {name: sent.get(name) is True for name in ("lines", "swap", "bos")}
    return HeadOptions(mass=float(mass), heads=tuple(chosen), **flags)


def head_view_data(view: HeadView, selected: Edge) -> dict[str, Any]:
    """All that the browser draws: the chosen head, and for the lines all heads of its layer.

    Raises ValueError for values that are not of shape [H, T, T], or a head that is not there.
    """
    n_tokens = len(view.tokens)
    if view.values.shape[1:] != (n_tokens, n_tokens) or view.head >= len(view.values):
        raise ValueError(
            f"Values for {n_tokens} tokens and head {view.head} are [heads, {n_tokens}, "
            f"{n_tokens}], these are {list(view.values.shape)}."
        )
    packed = lower_triangle(np.asarray(view.values, dtype=float))
    with_lines = n_tokens <= MOST_LINE_TOKENS
    sent = range(len(packed)) if with_lines else [view.head]
    return {
        "title": view.title,
        "prompt": view.prompt,
        "tokens": shown_tokens(view.tokens),
        "bos": view.has_bos,
        "layer": view.layer,
        "head": view.head,
        "heads": len(packed),
        "values": {str(head): rounded(packed[head]) for head in sent},
        "kind": view.kind,
        "top": _top(packed[view.head], view.kind),
        "next": shown_tokens(view.next_tokens),
        "nextProb": rounded(np.asarray(view.next_probs, dtype=float)),
        "mostLineTokens": MOST_LINE_TOKENS,
        "options": asdict(view.options) | {"heads": list(view.options.heads)},
        "link": view.link,
        "selected": dict(selected),
    }


def _top(values: Values, kind: ValueKind) -> float:
    """The size of value that has the full colour."""
    if kind == "pattern":
        return 1.0
    finite = np.abs(values[np.isfinite(values)])
    highest = float(finite.max(initial=0.0))
    return round(highest, 6) if highest > 1e-6 else 1.0
