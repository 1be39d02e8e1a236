"""The passes that the lab shows: computed once for all visitors who ask for the same."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from lens_core import HookedModel
from lens_core.glass import (
    ForwardSteps,
    explain,
    format_edits,
    forward_steps,
    glass_model,
    parse_edits,
    with_edits,
)
from lens_core.interventions import scale


@dataclass(frozen=True)
class Pass:
    """One pass of the glass model with some weights changed, beside that of the model as made."""

    model: HookedModel
    steps: ForwardSteps
    before: ForwardSteps


@st.cache_resource(show_spinner=False)
def shared_glass() -> HookedModel:
    """The glass model, one for all visitors."""
    return glass_model()


def glass_pass(sentence: str, edits: str, factor: float) -> Pass:
    """The pass of this sentence. Raises a LensError where sentence or edits cannot be read."""
    # Two ways to write the same edits share one result.
    return _glass_pass(" ".join(sentence.split()), format_edits(parse_edits(edits)), factor)


@st.cache_resource(max_entries=64, show_spinner=False)
def _glass_pass(sentence: str, edits: str, factor: float) -> Pass:
    made = shared_glass()
    changes = parse_edits(edits)
    model = with_edits(made, changes) if changes else made
    tokens = model.to_tokens(sentence)
    scaled = [] if factor == 1 else [scale("resid_post", model.cfg.n_layers - 1, factor=factor)]
    return Pass(
        model,
        forward_steps(model, tokens, scaled),
        forward_steps(made, tokens),
    )


@st.cache_data(max_entries=300, show_spinner=False)
def notes(sentence: str, edits: str, factor: float, tensor: str) -> list[list[str]]:
    """The arithmetic of every cell of a step, as text."""
    shown = glass_pass(sentence, edits, factor)
    rows, columns = shown.steps[tensor].grid().shape
    return [
        [
            str(explain(shown.model, shown.steps, tensor, position=row, column=column))
            for column in range(columns)
        ]
        for row in range(rows)
    ]
