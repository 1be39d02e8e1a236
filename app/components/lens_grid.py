"""The clickable grid of a lens: Python's side, which turns a result into plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import streamlit as st

from app.components.edge import joined
from lens_core.lens import LensResult
from lens_core.plots import FINAL_ANSWER, Aim, Quantity, difference_shade, visible

_HTML = """
<div class="lens" data-testid="lens-grid" data-ready="false">
  <div class="title"></div>
  <div class="legend" aria-hidden="true"></div>
  <div class="scroller">
    <div class="grid" role="grid"></div>
  </div>
  <div class="tip" role="tooltip" hidden></div>
  <div class="tools"></div>
</div>
"""
_PARTS = (
    "shared_base.js",
    "shared_picture.js",
    "lens_grid_cell.js",
    "lens_grid_tip.js",
    "lens_grid_picture.js",
    "lens_grid.js",
)

_lens_grid = st.components.v2.component(
    "lens_lab.lens_grid",
    html=_HTML,
    css=joined("shared.css", "lens_grid.css"),
    js=joined(*_PARTS),
)
_NO_VALUE = "–"


class Chosen(TypedDict):
    """The cell that a learner chose: indices into the result's rows and tokens."""

    row: int
    column: int


@dataclass(frozen=True)
class GridView:
    """What to draw of a result, and how.

    Attributes:
        rows: indices of the result's rows that are shown, in order.
        flip: the first row on top.
        soft_nats: KL below which a reading counts as close, for the strip's soft depth.
        first: if given, the grid shows how the result differs from this one, row by row alike.
        main: the grid that carries the link.
    """

    lens: LensResult
    quantity: Quantity
    prompt: str
    title: str
    has_bos: bool
    rows: tuple[int, ...]
    aim: Aim = FINAL_ANSWER
    flip: bool = False
    soft_nats: float = 1.0
    first: LensResult | None = None
    main: bool = True


def lens_grid(view: GridView, *, selected: Chosen, key: str, on_choose: Callable[[], None]) -> None:
    """Draw the grid; when ``on_choose`` runs, ``st.session_state[key].chosen`` is the new cell."""
    _lens_grid(key=key, data=grid_data(view, selected), on_chosen_change=on_choose)


def grid_data(view: GridView, selected: Chosen) -> dict[str, Any]:
    """All that the browser draws, as flat lists: a grid of 32 tokens stays under 200 kB."""
    lens, rows = view.lens, list(view.rows)
    top = lens.top_ids[rows]
    others = [] if view.first is None else view.first.top_ids[rows, :, 0].ravel().tolist()
    ids = {*top.ravel().tolist(), *lens.final_ids.tolist(), *lens.token_ids.tolist(), *others}
    vocab = sorted(ids)
    place = {token_id: i for i, token_id in enumerate(vocab)}
    texts = {**lens.texts, **({} if view.first is None else view.first.texts)}
    return {
        "label": f"{view.title}: layers by tokens, {view.quantity.label}. "
        "Arrow keys move, Enter selects.",
        "title": view.title,
        "prompt": view.prompt,
        "bos": view.has_bos,
        "flip": view.flip,
        "first": view.main,
        "rows": [_row(lens, row) for row in rows],
        "tokens": [visible(token) for token in lens.tokens],
        "vocab": [visible(texts[token_id]) for token_id in vocab],
        "k": lens.top_ids.shape[2],
        "top": [place[i] for i in top.ravel().tolist()],
        "prob": _rounded(lens.top_probs[rows], 4),
        "final": [place[i] for i in lens.final_ids.tolist()],
        "read": [place[i] for i in lens.token_ids.tolist()],
        "other": [place[i] for i in others] or None,
        "rank": lens.final_ranks[rows].ravel().tolist(),
        "bits": _rounded(lens.entropy_nats[rows] / np.log(2), 2),
        "kl": _rounded(np.maximum(lens.kl_nats[rows], 0), 2),
        "norm": _rounded(lens.state_norms[rows], 1),
        "strip": [] if view.first is not None else _strip(view),
        "selected": {"row": rows.index(selected["row"]) if selected["row"] in rows else -1}
        | {"column": selected["column"]},
        **_coloured(view),
    }


def _coloured(view: GridView) -> dict[str, Any]:
    """Shade and text of each cell, and the scale that explains them."""
    lens, quantity, rows = view.lens, view.quantity, list(view.rows)
    values = quantity.of(lens, view.aim)[rows]
    if view.first is None:
        ticks = np.array(quantity.ticks(lens.d_vocab))
        shades = quantity.shade(ticks, lens.d_vocab)
        written = [quantity.write_tick(float(tick)) for tick in ticks]
        scale = list(zip(shades.tolist(), written, strict=True))
        shade = quantity.shade(values, lens.d_vocab)
        return _colours(
            shade, values, quantity.write, quantity.label, quantity.unit, quantity.diverging, scale
        )
    before = quantity.of(view.first, view.aim)[rows]
    shade = difference_shade(quantity, before, values, lens.d_vocab)
    scale = [(0.08, "first closer"), (0.5, "0"), (0.92, "second closer")]
    with np.errstate(invalid="ignore"):
        change = values - before
    label = f"{quantity.label}, second minus first"
    return _colours(shade, change, lambda v: f"{v:+.3g}", label, quantity.unit, True, scale)


def _colours(
    shade: np.ndarray[Any, Any],
    values: np.ndarray[Any, Any],
    write: Callable[[float], str],
    label: str,
    unit: str,
    diverging: bool,
    scale: list[tuple[float, str]],
) -> dict[str, Any]:
    shades = [None if np.isnan(s) else round(s, 4) for s in shade.ravel().tolist()]
    ticks = [{"shade": round(at, 4), "text": text} for at, text in scale]
    return {
        "shade": shades,
        "value": [_NO_VALUE if np.isnan(v) else write(v) for v in values.ravel().tolist()],
        "quantity": {"label": label, "unit": unit, "diverging": diverging, "ticks": ticks},
    }


def _row(lens: LensResult, row: int) -> dict[str, Any]:
    label = lens.row_labels[row]
    short = label if label == "embed" else f"block {label}"
    return {"row": row, "label": short, "title": _row_title(lens, row)}


def _row_title(lens: LensResult, row: int) -> str:
    if lens.row_layers[row] < 0:
        return "embedding, before block 0"
    where = {"resid_pre": "before", "resid_mid": "inside"}.get(lens.site, "after")
    last = lens.site == "resid_post" and row == len(lens.row_layers) - 1
    return f"{where} block {lens.row_layers[row]}" + (", the output" if last else "")


def _strip(view: GridView) -> list[dict[str, Any]]:
    """Figures of whole columns: where the answer comes, where it stays, how often it changes."""
    summary = view.lens.summary(kl_below_nats=view.soft_nats)

    def layers(name: str) -> list[str]:
        return [
            _NO_VALUE if value is None else "emb" if value < 0 else str(value)
            for value in summary[name].astype(object).where(summary[name].notna(), None)
        ]

    close = f"first block with less than {view.soft_nats:g} nats of KL to the output"
    lines = (
        ("first", "first block that has the final answer", layers("first_hit")),
        ("stays", "block from which on it stays (prediction depth)", layers("prediction_depth")),
        ("close", close, layers("soft_depth")),
        ("flips", "changes of the best guess", [str(n) for n in summary["flips"]]),
        ("echoes", "rows that repeat the token just read", [str(n) for n in summary["echoes"]]),
    )
    return [{"label": label, "title": title, "values": values} for label, title, values in lines]


def _rounded(values: np.ndarray[Any, Any], digits: int) -> list[float]:
    # JSON has no infinity; a divergence that large reads the same as the largest finite number.
    finite = np.nan_to_num(values.astype(float), posinf=1e9)
    return np.round(finite, digits).ravel().tolist()
