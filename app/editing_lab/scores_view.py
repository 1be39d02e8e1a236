"""The scoreboard: what the edit should change and what it should leave alone, prompt by prompt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import streamlit as st

from app.attention_cache import ask
from app.editing_lab.asked import Scene
from app.errors import plain
from lens_core.editing import EditingError
from lens_core.editing.evaluate import (
    NOT_COMPARABLE,
    Scores,
    UnrelatedText,
    record_of,
    score,
    scoreboard,
)
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.editing.evaluate import Reply, ScoreLine

_KEPT = "editing_scores"


def draw(scene: Scene) -> None:
    """One line a score with the unedited baseline; each opens the prompts behind it."""
    if scene.edit is None:
        st.caption("There is no edit yet: choose *Edit* above.")
        return
    found = scores(scene)
    lines = scoreboard(found)
    st.markdown(f"Judged: **{plain(str(scene.edit.requests[0]))}**")
    if len(found.replies) == 1:
        st.info(
            "The world that this model was trained on has no record of this fact, so there are "
            "no neighbours, paraphrases or other facts to ask about. What can be asked is the "
            "sentence itself, and what became of unrelated text. Ask about the rest yourself, "
            "under *answers*.",
            icon=":material/info:",
        )
    for line in lines:
        if not math.isnan(line.after):
            _line(line)
    st.caption(NOT_COMPARABLE)


def scores(scene: Scene) -> Scores:
    """Both models asked everything about the chosen edit; kept until an edit changes.

    Raises EditingError while there is no edit.
    """
    if scene.edit is None:
        raise EditingError("There is no edit yet: choose *Edit* first.")
    request = scene.edit.requests[0]
    key = (scene.fingerprints, scene.prefix, request)
    kept: tuple[object, Scores] | None = st.session_state.get(_KEPT)
    if kept is None or kept[0] != key:
        text: UnrelatedText | None = ask(scene.before, unrelated_text, heavy=True).result
        with st.spinner("Asking both models ..."):
            record = record_of(scene.before, request)
            found = score(scene.before, scene.holding, record, unrelated=text)
        kept = key, found
        st.session_state[_KEPT] = kept
    return kept[1]


def unrelated_text(model: HookedModel) -> UnrelatedText | None:
    """Text of the world with what the model says of it; None where it cannot be read."""
    try:
        return UnrelatedText.of(model, n_rows=16)
    except LensError:
        return None


def _line(line: ScoreLine) -> None:
    share = line.unit == "share"
    title = f"**{line.title}: {_written(line.after, share)}**, unedited "
    title += f"{_written(line.before, share)}{_moved(line) if share else f' {line.unit}'}"
    with st.expander(title, key=f"score_{line.key}"):
        st.caption(f"{line.means} {line.n} counted.")
        if line.replies:
            st.dataframe([_row(r) for r in line.replies], hide_index=True, width="stretch")


def _written(value: float, share: bool) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.0%}" if share else f"{value:.3g}"


def _moved(line: ScoreLine) -> str:
    change = line.after - line.before
    return "" if math.isnan(change) or abs(change) < 5e-3 else f" ({100 * change:+.0f} points)"


def _row(reply: Reply) -> dict[str, object]:
    q, before, after = reply.question, reply.before, reply.after
    return {
        "prompt": q.prompt,
        "wanted": q.answer,
        "original says": before.text.strip(),
        "edited says": after.text.strip(),
        "p(wanted), original": round(before.p_answer, 3),
        "p(wanted), edited": round(after.p_answer, 3),
        "other": q.rival,
        "p(other), original": None if math.isnan(before.p_rival) else round(before.p_rival, 3),
        "p(other), edited": None if math.isnan(after.p_rival) else round(after.p_rival, 3),
    }


def table(scene: Scene) -> pd.DataFrame:
    """One line a question with both models' answers. Raises EditingError without an edit."""
    return scores(scene).to_frame()
