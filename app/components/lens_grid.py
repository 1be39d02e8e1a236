"""The clickable grid of a lens: Python's side, which turns a result into plain data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import streamlit as st

from lens_core.lens import LensResult
from lens_core.plots import Quantity, visible

_HERE = Path(__file__).parent
_HTML = """
<div class="lens" data-testid="lens-grid" data-ready="false">
  <div class="legend" aria-hidden="true"></div>
  <div class="scroller">
    <div class="grid" role="grid"></div>
  </div>
  <div class="tip" role="tooltip" hidden></div>
</div>
"""

_lens_grid = st.components.v2.component(
    "lens_lab.lens_grid",
    html=_HTML,
    css=(_HERE / "lens_grid.css").read_text(encoding="utf-8"),
    js=(_HERE / "lens_grid.js").read_text(encoding="utf-8"),
)


class Chosen(TypedDict):
    """The cell that a learner chose: indices into the result's rows and tokens."""

    row: int
    column: int


def lens_grid(
    lens: LensResult,
    quantity: Quantity,
    *,
    prompt: str,
    has_bos: bool,
    selected: Chosen,
    key: str,
    on_choose: Callable[[], None],
) -> None:
    """Draw the grid; when ``on_choose`` runs, ``st.session_state[key].chosen`` is the new cell."""
    _lens_grid(
        key=key,
        data=grid_data(lens, quantity, prompt=prompt, has_bos=has_bos, selected=selected),
        on_chosen_change=on_choose,
    )


def grid_data(
    lens: LensResult, quantity: Quantity, *, prompt: str, has_bos: bool, selected: Chosen
) -> dict[str, Any]:
    """All that the browser draws, as flat lists: a grid of 32 tokens stays under 200 kB."""
    values = quantity.values(lens)
    vocab = sorted({*lens.top_ids.ravel().tolist(), *lens.final_ids.tolist()})
    place = {token_id: i for i, token_id in enumerate(vocab)}
    ticks = np.array(quantity.ticks(lens.d_vocab))
    return {
        "label": f"Logit lens of {lens.model_name}: layers by tokens, {quantity.label}. "
        "Arrow keys move, Enter selects.",
        "prompt": prompt,
        "bos": has_bos,
        "rows": [
            {"label": label if label == "embed" else f"block {label}", "title": _row_title(lens, i)}
            for i, label in enumerate(lens.row_labels)
        ],
        "tokens": [visible(token) for token in lens.tokens],
        "vocab": [visible(lens.texts[token_id]) for token_id in vocab],
        "k": lens.top_ids.shape[2],
        "top": [place[i] for i in lens.top_ids.ravel().tolist()],
        "prob": _rounded(lens.top_probs, 5),
        "final": [place[i] for i in lens.final_ids.tolist()],
        "shade": _rounded(quantity.shade(values, lens.d_vocab), 4),
        "value": [quantity.write(v) for v in values.ravel().tolist()],
        "rank": lens.final_ranks.ravel().tolist(),
        "bits": _rounded(lens.entropy_nats / np.log(2), 2),
        "kl": _rounded(np.maximum(lens.kl_nats, 0), 2),
        "quantity": {
            "label": quantity.label,
            "unit": quantity.unit,
            "ticks": [
                {"shade": round(float(shade), 4), "text": quantity.write_tick(float(tick))}
                for tick, shade in zip(ticks, quantity.shade(ticks, lens.d_vocab), strict=True)
            ],
        },
        "selected": selected,
    }


def _row_title(lens: LensResult, row: int) -> str:
    if lens.row_layers[row] < 0:
        return "embedding, before block 0"
    last = row == len(lens.row_layers) - 1
    return f"after block {lens.row_layers[row]}" + (", the output" if last else "")


def _rounded(values: np.ndarray[Any, Any], digits: int) -> list[float]:
    # JSON has no infinity; a divergence that large reads the same as the largest finite number.
    finite = np.nan_to_num(values.astype(float), posinf=1e9)
    return np.round(finite, digits).ravel().tolist()
