"""All heads of a model as thumbnails: Python's side, which packs patterns into bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict


from app.components.edge import Edge, Values

# Bytes that one prompt's thumbnails may take; base64 makes four thirds of them.
_MOST_BYTES = 340_000
_MOST_PIXELS = 64
LAYER_ORDER = ""
_HTML = """
<div class="heads" data-testid="head-grid" data-ready="false">
  <div class="title"></div>
  <div class="options"></div>
  <div class="legend" aria-hidden="true"></div>
  <div class="scroller"><div class="grid" role="grid"></div></div>
  <div class="tip" role="tooltip" hidden></div>
  <div class="tools"></div>
</div>
"""


class GridOptions(TypedDict):
    """What the learner sets in the grid itself.

    `order` is a score's name, or "" for the model's own order; `block` packs all heads of the model
    onto one screen; `lines` draws each as lines from token to token.
    """

    order: str
    block: bool
    lines: bool


@dataclass(frozen=True)
class HeadPrompt:
    """One prompt's attention.

    Attributes:
        tokens: its T tokens.
        values: [layer, head, destination, source] of shape [L, H, T, T], none negative: patterns or
            value-weighted patterns.
    """

    prompt: str
    tokens: Sequence[str]
    values: Values


@dataclass(frozen=True)
class HeadScoreColumn:
    """One number a head, [L, H], by which the grid can be sorted; `definition` says what it is."""

    name: str
    values: Values
    definition: str = ""


@dataclass(frozen=True)
class HeadGridView:
    """What to draw.

    Attributes:
        prompts: one, or two to be seen side by side in each cell.
        value_label: what the values are, as the legend says it.
        value_weighted: the colour scale ends at the largest value and not at 1.
        link: the grid paints at once what a click chose in the head view of the same name.
    """

    title: str
    prompts: tuple[HeadPrompt, ...]
    scores: tuple[HeadScoreColumn, ...] = ()
    value_label: str = "attention"
    value_weighted: bool = False
    options: GridOptions = GridOptions(order=LAYER_ORDER, block=False, lines=False)
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
    ``read_edge``; when ``on_options`` runs, ``.options`` is a GridOptions, for
    ``read_grid_options``. A page that keeps no options may leave that out: the browser keeps them.
    """
    raise NotImplementedError


def head_grid_data(view: HeadGridView, selected: Edge) -> dict[str, Any]:
    """All that the browser draws; one prompt takes at most half a megabyte, whatever the model."""
    raise NotImplementedError
