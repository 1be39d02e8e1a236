"""One head seen large, as a matrix or as lines: Python's side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict


from app.components.edge import Edge, Values

MOST_LINE_TOKENS = 25
ValueKind = Literal["pattern", "value-weighted", "scores"]


class HeadOptions(TypedDict):
    """What the learner sets in the view itself.

    `lines`: lines from token to token in place of the matrix (up to 25 tokens). `mass`: only the
    strongest edges of each destination that hold this share of what is shown, 1 for all. `swap`:
    sources in rows and destinations in columns. `bos`: the start token is shown. `heads`: the heads
    of the layer that the lines draw, each in its colour; empty for the chosen one alone.
    """

    lines: bool
    mass: float
    swap: bool
    bos: bool
    heads: list[int]


@dataclass(frozen=True)
class HeadView:
    """What to draw.

    Attributes:
        values: [head, destination, source] of one layer, shape [H, T, T]; masked cells may be nan.
        kind: what they are; patterns and value-weighted patterns are not negative, scores may be.
        has_bos: the first token is the start token.
        next_tokens: the best guess after each token, or none.
        next_probs: their probabilities.
        link: the head grid of the same name paints here at once what a click chose.
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
    options: HeadOptions = HeadOptions(lines=False, mass=1.0, swap=False, bos=True, heads=[])
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
    ``on_options`` runs, ``.options`` is a HeadOptions, for ``read_head_options``. A page that keeps
    no options may leave that out: the browser keeps them.
    """
    raise NotImplementedError
