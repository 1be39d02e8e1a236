"""Behind the curves: one fact's prompts with both models' answers, and facts that contradict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.errors import plain
from app.mass_editing_lab.curves_view import SHORT
from app.mass_editing_lab.experiment import Curves
from lens_core.editing import Edit
from lens_core.editing.evaluate import Question, ask, record_of, score

if TYPE_CHECKING:
    from lens_core import HookedModel

_COLUMNS = {
    "prompt": "prompt",
    "answer": "wanted",
    "after": "edited says",
    "before": "unedited says",
    "exact_after": "as wanted",
    "p_answer_after": "p(wanted)",
    "group": "asked as",
}
_PROMPT_PX = 220


def draw(model: HookedModel, found: Curves) -> None:
    """A picker of the fact and of the method; below it every prompt that judges the fact."""
    shown = st.expander(
        "Open a fact: its prompts, and what both models say", key="mass_open", on_change="rerun"
    )
    if not shown.open:
        return
    with shown:
        left, right = st.columns([2, 1])
        facts = {str(n): record for n, record in enumerate(found.facts)}
        chosen = left.selectbox(
            "Fact",
            list(facts),
            key="opened",
            bind="query-params",
            format_func=lambda n: f"{int(n) + 1}. {facts[n].request}",
        )
        method = right.selectbox(
            "Written by", list(found.edits), key="mass_fact_method", format_func=SHORT.__getitem__
        )
        edit = found.edits[method]
        record = facts[chosen]
        if record.request not in edit.requests:
            st.caption(f"{SHORT[method]} was stopped before it came to this fact.")
        frame = answers(model, record_of(model, record.request), edit)
        st.dataframe(
            frame,
            hide_index=True,
            width="stretch",
            column_config={"prompt": st.column_config.TextColumn(width=_PROMPT_PX)},
        )
        st.caption(
            f"The edited model holds {len(edit.requests)} edits by {SHORT[method]}. What a model "
            "*says* is its own most likely words."
        )


def answers(model: HookedModel, record: object, edit: Edit) -> pd.DataFrame:
    """One line a prompt: what is wanted, and what both models say."""
    frame = score(model, edit, record).to_frame()  # type: ignore[arg-type]
    out = frame[list(_COLUMNS)].rename(columns=_COLUMNS)
    for column in ("unedited says", "edited says"):
        out[column] = out[column].str.strip()
    return out.round({"p(wanted)": 3}).replace({"as wanted": {True: "yes", False: "no"}})


def draw_contradictions(
    model: HookedModel, found: Curves, groups: tuple[tuple[int, ...], ...]
) -> None:
    """Facts that cannot all hold: what each method's model says in the end."""
    if not groups:
        return
    st.markdown("##### Two answers to one question")
    st.caption(
        "All were asked for. One after another, the later edit has the last word; written at once, "
        "both pull at the same value."
    )
    for group in groups:
        requests = [found.facts[at].request for at in group]
        st.markdown(f"**{plain(requests[0].prompt)}**")
        questions = [Question(r.prompt, r.target_new.strip()) for r in requests]
        st.dataframe(contradiction(model, questions, found.edits), hide_index=True, width="stretch")


def contradiction(
    model: HookedModel, questions: list[Question], edits: Mapping[str, Edit]
) -> pd.DataFrame:
    """One line a model: what it says, and how likely each answer is to it."""
    rows = []
    for name, edit in [("unedited", None), *((SHORT[m], e) for m, e in edits.items())]:
        said = ask(model, questions, edit)
        row: dict[str, object] = {"model": name, "says": said[0].text.strip()}
        row |= {
            f"p({q.answer})": round(s.p_answer, 3) for q, s in zip(questions, said, strict=True)
        }
        rows.append(row)
    return pd.DataFrame(rows)
