"""What heads do: a score for each, with definition, ceiling, interval and control; composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.attention_cache import Answer, begin
from app.attention_lab import repeat_view
from app.attention_lab.asked import Scene
from app.attention_lab.maps import choice, head_map
from app.attention_lab.measured import settled, standard_scores
from app.attention_lab.offers import offer_block
from app.attention_lab.parts import head_label
from app.attention_lab.settings import INTO, MEASURED, SCORED_ON, THIS_PROMPT
from app.errors import plain
from app.jobs import Job
from lens_core.attention import (
    ALL,
    CompositionScores,
    HeadScore,
    HeadScores,
    composition_scores,
    head_scores,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from lens_core import HookedModel

MAP_KEY, INTO_KEY = "score_map", "composition_map"
_RANKED = 8


def controls() -> None:
    """Scores or composition, which one, and measured on what."""
    measured = choice("Measure", MEASURED, "measured")
    if measured == "composition":
        choice("What earlier heads write into", INTO, "into")
    if measured == "scores":
        _choose_score()


def _choose_score() -> None:
    left, right = st.columns(2)
    left.selectbox(
        "Score",
        list(ALL),
        index=list(ALL).index("induction"),
        key="score",
        bind="query-params",
        persist_state="page",
        help="Its definition and formula stand under the map.",
    )
    right.selectbox(
        "Measured on",
        list(SCORED_ON),
        key="scored_on",
        bind="query-params",
        persist_state="page",
        help="  \n".join(f"**{name}**: {what}" for name, what in SCORED_ON.items()),
    )


def more_controls() -> None:
    """The seed."""
    st.number_input(
        "Seed",
        min_value=0,
        max_value=9999,
        value=0,
        step=1,
        key="seed",
        bind="query-params",
        persist_state="page",
        help="Draws the random tokens, the intervals and the control's weights.",
    )


def draw(scene: Scene) -> None:
    """The map of the chosen measurement, its ranking, and the offers."""
    if scene.settings.measured == "composition":
        job = composition_job(scene)
        settled(job, "Comparing all pairs of heads", lambda answer: _composition(scene, answer))
    elif scene.settings.measured == "loss of a repeat":
        repeat_view.draw(scene)
    else:
        job_of_scores = scores_job(scene)
        settled(job_of_scores, "Scoring every head", lambda answer: _scores(scene, answer))
    offer_block(scene)


def scores_job(scene: Scene) -> Job[Answer[HeadScores]]:
    """The scores that the settings ask for: on random tokens, or on the prompt's own."""
    settings = scene.settings
    if settings.scored_on == THIS_PROMPT:
        return begin(scene.model, scores_on_tokens, scene.token_ids, seed=settings.seed)
    return standard_scores(scene.model, settings.seed)


def scores_on_tokens(model: HookedModel, tokens: Tensor, *, seed: int) -> HeadScores:
    """All scores on these tokens."""
    return head_scores(model, tokens, seed=seed)


def composition_job(scene: Scene) -> Job[Answer[CompositionScores]]:
    """Composition of all pairs of heads."""
    return begin(scene.model, composition_scores, seed=scene.settings.seed)


def _scores(scene: Scene, answer: Answer[HeadScores]) -> None:
    found, name = answer.result, scene.settings.score
    score = found[name]
    unit = f", in {score.kind.unit}" if score.kind.unit else ""
    st.markdown(f"**{score.kind.label}{unit}.** {plain(score.kind.definition)}")
    if score.reason is not None:
        st.info(plain(score.reason))
        return
    top = score.ceiling if np.isfinite(score.ceiling) and score.ceiling > 0 else None
    head_map(
        score.value,
        scene.edge,
        key=MAP_KEY,
        label=score.kind.label,
        top=top,
        note=lambda layer, head: _interval(score, layer, head),
    )
    st.caption(_bounds(score, found))
    st.dataframe(_ranking(score, found, scene), hide_index=True)
    st.caption(
        f"`{score.kind.formula}`  \nAfter {plain(score.kind.source)}. {plain(_measured_on(found))} "
        f"95% intervals over sequences, bootstrap, seed {found.seed}. The control is a model of "
        f"this shape with random weights. Measured in {answer.took_ms / 1000:.1f} s."
    )
    st.caption(
        "A score says how much a head's attention looks like a rule; not that anything needs the "
        "head for it."
    )


def _interval(score: HeadScore, layer: int, head: int) -> str:
    low, high = score.low[layer, head], score.high[layer, head]
    said = "" if np.isnan(low) else f"95% interval {low:.3f} to {high:.3f}."
    if score.control is not None and np.isfinite(score.control[layer, head]):
        said += f" Random weights: {score.control[layer, head]:.3f}."
    return said.strip()


def _bounds(score: HeadScore, found: HeadScores) -> str:
    parts = []
    if np.isfinite(score.ceiling):
        parts.append(f"the most that any head could reach here is **{score.ceiling:.3g}**")
    if np.isfinite(score.floor):
        parts.append(f"the least {score.floor:.3g}")
    if np.isfinite(score.uniform):
        parts.append(f"a head that looks at everything alike gets {score.uniform:.3g}")
    if score.control is not None and np.isfinite(score.control).any():
        top = float(np.nanmax(score.control))
        parts.append(f"the best of {found.n_layers * found.n_heads} heads with random weights "
                     f"{top:.3g}")  # fmt: skip
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _measured_on(found: HeadScores) -> str:
    n = len(found.token_ids)
    if found.half is None:
        return f"Measured on {n} sequence{'s' if n != 1 else ''} of your own text."
    return f"Measured on {n} sequences of {found.copies} x {found.half} random tokens."


def _ranking(score: HeadScore, found: HeadScores, scene: Scene) -> pd.DataFrame:
    import pandas as pd

    heads = found.ranking(score.kind.name)[:_RANKED]
    chosen = (scene.edge["layer"], scene.edge["head"])
    if chosen not in heads and np.isfinite(score.value[chosen]):
        heads.append(chosen)
    return pd.DataFrame(
        {
            "head": [head_label(layer, head) for layer, head in heads],
            "score": [round(float(score.value[head]), 3) for head in heads],
            "95% from": [round(float(score.low[head]), 3) for head in heads],
            "to": [round(float(score.high[head]), 3) for head in heads],
            "random weights": [
                None if score.control is None else round(float(score.control[head]), 3)
                for head in heads
            ],
        }
    )


def _composition(scene: Scene, answer: Answer[CompositionScores]) -> None:
    found, kind = answer.result, scene.settings.into
    layer, head = scene.edge["layer"], scene.edge["head"]
    above = found.above_baseline(kind)[:, :, layer, head]  # type: ignore[arg-type]
    st.markdown(f"**How much each earlier head writes into {INTO[kind].split(':')[0]} of "
                f"{head_label(layer, head)}**, above what random heads have")  # fmt: skip
    head_map(
        above,
        scene.edge,
        key=INTO_KEY,
        label="Composition above the random baseline",
        digits=3,
        note=lambda a, b: f"Score {found.scores[kind][a, b, layer, head]:.3f}.",  # type: ignore[index]
        opens=False,
    )
    st.caption(
        f"Random heads of this shape have {found.baseline_mean:.3f} ± {found.baseline_std:.3f} "
        f"({found.n_draws} drawn, seed {found.seed}; theory: 1/√d_model = {found.theory:.3f}). "
        f"Two heads that share one subspace evenly would have {found.aligned:.3f}. From the "
        "weights alone: what could happen, not what does on any text. A click chooses another head."
    )
    st.markdown("**The strongest pairs of the whole model**")
    st.dataframe(_pairs(found, kind), hide_index=True)
    st.caption(f"Compared in {answer.took_ms / 1000:.1f} s.")


def _pairs(found: CompositionScores, kind: str) -> pd.DataFrame:
    import pandas as pd

    pairs = found.strongest(kind, _RANKED)  # type: ignore[arg-type]
    return pd.DataFrame(
        {
            "earlier head": [head_label(a, b) for a, b, _, _ in pairs],
            "later head": [head_label(c, d) for _, _, c, d in pairs],
            "score": [round(float(found.scores[kind][pair]), 3) for pair in pairs],  # type: ignore[index]
        }
    )
