"""What the three attention components share: an edge of attention, how it is packed and read."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from lens_core.plots import visible

_HERE = Path(__file__).parent
Values = np.ndarray[Any, Any]
ValueKind = Literal["pattern", "value-weighted", "scores"]


class Edge(TypedDict):
    """What a learner chose: a head, and one edge of its attention, as plain indices.

    `dest` is the token that looks, `src` the one looked at; never later than `dest`.
    """

    layer: int
    head: int
    dest: int
    src: int


def read_edge(chosen: object, n_layers: int, n_heads: int, n_tokens: int) -> Edge | None:
    """The edge that a browser sent, or None if it is not one of this model and prompt.

    What the browser sends is a visitor's text like any other, so nothing of it is taken on trust.
    """
    if not isinstance(chosen, Mapping):
        return None
    layer, head, dest, src = (index(chosen.get(k)) for k in ("layer", "head", "dest", "src"))
    if min(layer, head, dest, src) < 0 or layer >= n_layers or head >= n_heads:
        return None
    if not src <= dest < n_tokens:
        return None
    return Edge(layer=layer, head=head, dest=dest, src=src)


def index(value: object) -> int:
    """A whole number of 0 or more that a browser sent, or -1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return -1
    return int(value) if value >= 0 and value == value // 1 < 2**31 else -1


def joined(*parts: str) -> str:
    """Files of this folder joined in this order: the parts of one component, without a build."""
    return "\n".join((_HERE / part).read_text(encoding="utf-8") for part in parts)


def shown_tokens(tokens: Sequence[str]) -> list[str]:
    """Tokens with their whitespace made visible, for text nodes alone."""
    return [visible(token) for token in tokens]


def lower_triangle(values: Values) -> Values:
    """[..., T, T] to [..., T(T+1)/2], row by row: a causal head has nothing above the diagonal."""
    rows, columns = np.tril_indices(values.shape[-1])
    packed: Values = values[..., rows, columns]
    return packed


def packed_bytes(shades: Values) -> str:
    """Shades from 0 to 1 as base64 of one byte each; nan becomes 0."""
    levels = np.clip(np.nan_to_num(shades), 0, 1) * 255
    return base64.b64encode(np.rint(levels).astype(np.uint8).tobytes()).decode()


def rounded(values: Values, digits: int = 4) -> list[float | None]:
    """A flat list for JSON, which has neither nan nor infinity: both become None."""
    flat = np.round(np.asarray(values, dtype=float), digits).ravel()
    return [float(v) if np.isfinite(v) else None for v in flat]
