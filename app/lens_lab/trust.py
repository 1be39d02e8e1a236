"""How far the page can be trusted: parity, cautions found in the grid, the lens's origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.errors import plain
from app.lens_cache import Answer
from app.lens_lab.words import cautions
from app.take_away import provenance
from lens_core.lens import LensResult

if TYPE_CHECKING:
    from lens_core import HookedModel

_LEARNED = ("tuned", "bias-only", "jacobian")
# What a lens's record says of its making, in these words.
_TOLD = {
    "corpus": "text",
    "tokens_seen": "tokens seen",
    "n_prompts": "prompts",
    "held_out_kl_nats": "held-out KL in nats",
    "seed": "seed",
}


def trust_panel(model: HookedModel, answer: Answer) -> None:
    """Always in sight: the badge, the cautions, and what a lens cannot show."""
    st.markdown(_parity_note(answer.lens))
    found = cautions(answer.lens)
    if found:
        with st.container(key="cautions"):
            st.warning("  \n".join(found), icon=":material/warning:")
    st.caption(
        "**Observation is not causation:** that a guess can be read from a state does not show "
        "that the model uses it. Only a change of the state, ablation or patching, tests that."
    )
    st.caption(_provenance_line(model, answer))


def _parity_note(lens: LensResult) -> str:
    parity = lens.parity
    figure = (
        f"largest difference {parity.max_abs:.1g} (logits up to {parity.scale:.0f}), "
        f"same best guess at {parity.n_same_top1} of {parity.n_positions} tokens"
    )
    if parity.ok:
        return f":green-badge[:material/check: last state read = the model's own logits] {figure}"
    return f":red-badge[:material/warning: last state read is not the model's own logits] {figure}"


def _provenance_line(model: HookedModel, answer: Answer) -> str:
    lens = answer.lens
    took = "stored result" if answer.stored else f"read in {answer.took_ms:.0f} ms"
    return provenance(
        model,
        f"{plain(lens.lens_name)} lens{_made_from(lens)}",
        f"{len(lens.token_ids)} tokens, {len(lens.row_layers)} rows",
        "nothing drawn at random",
        took,
    )


def _made_from(lens: LensResult) -> str:
    told = {key: lens.provenance[key] for key in _TOLD if key in lens.provenance}
    if told:
        return " (" + ", ".join(f"{_TOLD[key]} {plain(_short(told[key]))}" for key in told) + ")"
    return " (no record of its training)" if lens.lens_name in _LEARNED else ""


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple) and value and isinstance(value[0], float):
        return f"{min(value):.2g} to {max(value):.2g}"
    text = str(value)
    return text if len(text) <= 80 else text[:79] + "…"
