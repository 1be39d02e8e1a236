"""Sentences that are computed from a result: what there is to see, and what to beware of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.errors import plain
from lens_core.lens import LensResult
from lens_core.plots import visible

LARGE_SHARE, LEAST_GAIN = 0.5, 0.9


def token(text: str) -> str:
    """A token as Markdown shows it as it stands."""
    return plain(visible(text))


def after(layer: int, site: str = "resid_post") -> str:
    """Where a row stands, in words."""
    if layer < 0:
        return "in the embedding"
    where = {"resid_pre": "before", "resid_mid": "inside"}.get(site, "after")
    return f"{where} block {layer}"


def column_line(lens: LensResult, position: int, soft_nats: float) -> str:
    """The strip under the grid, read out for one column."""
    said = (
        f"After **{token(lens.tokens[position])}** the model says "
        f"**{token(lens.texts[int(lens.final_ids[position])])}**"
    )
    if lens.site in ("attn_out", "mlp_out"):
        return f"{said}. The rows show what one part adds on its own, so none of them need agree."
    first, stays = lens.first_hit(position), lens.prediction_depth(position)
    if first is None:
        return f"{said}. In no row of this lens is that the best guess."
    parts = [f"{said}. In the lens it is first the best guess {after(first, lens.site)}"]
    if stays is None:
        parts.append(", but not in the last row")
    else:
        parts.append(
            ", and stays so" if first == stays else f", and for good {after(stays, lens.site)}"
        )
    close, flips = lens.soft_depth(position, kl_below_nats=soft_nats), lens.flips(position)
    if close is not None:
        parts.append(
            f"; the whole distribution is within {soft_nats:g} nats {after(close, lens.site)}"
        )
    times = {0: "never changes", 1: "changes once"}.get(flips, f"changes {flips} times")
    parts.append(f". The best guess {times} on the way")
    echoes = int(lens.echoes[:, position].sum())
    if echoes:
        rows = "1 row repeats" if echoes == 1 else f"{echoes} rows repeat"
        parts.append(f", and {rows} the token just read")
    return "".join(parts) + "."


def cautions(lens: LensResult) -> list[str]:
    """Reasons to doubt what the grid seems to say, found in the grid itself."""
    found = []
    beyond_first = slice(1, None) if len(lens.token_ids) > 1 else slice(None)
    echo = lens.echoes[:, beyond_first].mean(axis=1)
    row = int(echo.argmax())
    if echo[row] > LARGE_SHARE:
        found.append(
            f"**Echo:** {after(lens.row_layers[row], lens.site)}, {echo[row]:.0%} of the tokens "
            "are simply repeated. There the lens shows what was read, not what the model expects."
        )
    same = [_most_common(lens.top_ids[row, beyond_first, 0]) for row in range(len(lens.row_layers))]
    shares = [share for _, share in same]
    row = int(np.argmax(shares))
    if shares[row] > LARGE_SHARE and len(lens.token_ids) > 3:
        found.append(
            f"**Bias:** {after(lens.row_layers[row], lens.site)}, the best guess is "
            f"{token(lens.texts[same[row][0]])} at {shares[row]:.0%} of the tokens whatever was "
            "read. A lens that learns an offset for each block (tuned, bias-only) removes this."
        )
    if is_undertrained(lens.provenance):
        found.append(
            "**Undertrained:** by its own record this lens hardly left the logit lens where it "
            "started, so early rows look worse than they need."
        )
    return found


def is_undertrained(provenance: Mapping[str, Any]) -> bool:
    """The record says so, or its held-out KL fell by less than a tenth in the mean."""
    before = provenance.get("held_out_kl_before_nats") or []
    trained = provenance.get("held_out_kl_nats") or []
    if provenance.get("undertrained"):
        return True
    return bool(before and trained) and sum(trained) > LEAST_GAIN * sum(before)


def _most_common(ids: np.ndarray) -> tuple[int, float]:
    values, counts = np.unique(ids, return_counts=True)
    return int(values[counts.argmax()]), float(counts.max() / counts.sum())
