"""How a query and a key make one attention score, dimension by dimension: Python's side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.components.edge import Edge, Values


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
    """Draw it; when ``on_choose`` runs, ``st.session_state[key].chosen`` is an Edge, for
    ``read_edge``: another source of the same destination."""
    raise NotImplementedError
