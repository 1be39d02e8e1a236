"""Which facts are edited: the world's, or a table that the visitor types or brings along."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app import answer_controls
from app.attention_cache import ask
from app.editing_lab.asked import facts_named
from app.errors import plain, polite_errors
from app.lens_cache import fingerprint
from app.mass_editing_lab.rows import (
    COLUMNS,
    MOST_ROWS,
    TEMPLATE,
    BadRow,
    Row,
    Table,
    contradictions,
    read_csv,
    read_records,
)
from app.mass_editing_lab.settings import MOST_FACTS, SOURCES, WORLD, Settings
from lens_core.editing import EditingError, EditRequest
from lens_core.editing.evaluate import EvaluationRecord, Question, Said, Sizes, record_of, records
from lens_core.editing.evaluate import ask as ask_model

if TYPE_CHECKING:
    from lens_core import HookedModel

EDITOR = "mass_table"
_SHOWN, _UPLOAD, _LEFT_OUT, _VERSION = "mass_shown", "mass_upload", "mass_left_out", "mass_version"
_CHECKED = "mass_checked"
# What each fact is asked: enough for the curves, little enough for a thousand facts.
SIZES = Sizes(
    paraphrases=3, after_story=1, neighbours=4, other_subjects=0, near=0, wordings=0, followers=0,
    reference_subjects=0,
)  # fmt: skip
_FIRST = [
    ("The Eiffel Tower is in the city of", "The Eiffel Tower", "Rome", "Paris"),
    ("The Eiffel Tower is in the city of", "The Eiffel Tower", "London", "Paris"),
    ("Michael Jordan plays the sport of", "Michael Jordan", "tennis", "basketball"),
    ("In Japan, the capital is", "Japan", "Berlin", "Tokyo"),
]


@dataclass(frozen=True)
class Facts:
    """What is to be edited.

    Attributes:
        records: one a fact, in the order in which they are written, with the questions that judge.
        numbers: of the rows they come from.
        contradictions: places among the records, of facts that cannot all hold.
    """

    records: tuple[EvaluationRecord, ...]
    numbers: tuple[int, ...]
    contradictions: tuple[tuple[int, ...], ...] = ()


def choose_facts(model: HookedModel) -> Facts:
    """The controls, the facts, and what is wrong with those that are left out.

    Raises EditingError where there is none.
    """
    source = answer_controls.choice("Facts from", SOURCES, "source", Settings().source)
    return _of_the_world(model) if source == WORLD else _of_the_table(model)


def _of_the_world(model: HookedModel) -> Facts:
    left, right = st.columns(2)
    n = left.number_input(
        "How many", 1, MOST_FACTS, Settings().n_facts, key="n_facts", bind="query-params",
        persist_state="page",
        help="Facts that the model answers by itself, each to be given another answer of its kind.",
    )  # fmt: skip
    seed = right.number_input(
        "Seed of the facts", 0, 9999, 0, key="seed", bind="query-params", persist_state="page"
    )
    found = ask(model, world_records, n=int(n), seed=int(seed)).result
    if len(found) < n:
        st.caption(f":material/info: There are {len(found)} such facts for this model.")
    if not found:
        raise EditingError(
            f"{model.cfg.name} answers none of the facts of this world; choose *your table* and "
            "write facts that it knows."
        )
    with st.expander(f"The facts: {len(found)}"):
        st.dataframe(
            pd.DataFrame([_cells(record) for record in found]), hide_index=True, width="stretch"
        )
    return Facts(found, tuple(range(1, len(found) + 1)))


def world_records(model: HookedModel, *, n: int, seed: int) -> tuple[EvaluationRecord, ...]:
    """At most so many facts that the model knows; none for models of another world."""
    if model.cfg.name.startswith("glass") or not getattr(model.tokenizer, "is_fast", False):
        return ()
    while n:
        try:
            return records(model, n, seed, "test", sizes=SIZES)
        except EditingError:
            n = n // 2 if n > 8 else 0
    return ()


def _cells(record: EvaluationRecord) -> dict[str, str]:
    request = record.request
    return dict(
        zip(
            COLUMNS,
            (request.prompt, request.subject, request.target_new, request.target_true),
            strict=True,
        )
    )


def _of_the_table(model: HookedModel) -> Facts:
    state = st.session_state
    st.file_uploader(
        "A CSV file",
        type="csv",
        key=_UPLOAD,
        on_change=_take_file,
        help=f"Columns {', '.join(COLUMNS)}, the last one if you like; at most {MOST_ROWS} rows. "
        "What stands in a cell is text and nothing else.",
    )
    st.download_button(
        "Template (CSV)", TEMPLATE, file_name="facts.csv", mime="text/csv", on_click="ignore",
        icon=":material/download:",
    )  # fmt: skip
    shown = state.get(_SHOWN)
    if shown is None:
        shown = state[_SHOWN] = pd.DataFrame(_FIRST, columns=list(COLUMNS))
    edited = st.data_editor(
        shown,
        num_rows="dynamic",
        key=f"{EDITOR}_{state.get(_VERSION, 0)}",
        width="stretch",
        column_config={name: st.column_config.TextColumn(name) for name in COLUMNS},
    )
    table = read_records(edited.to_dict("records"))
    return _checked(model, table)


def _take_file() -> None:
    """The uploaded rows into the table; those that are none are listed below it."""
    state = st.session_state
    file: io.BytesIO | None = state.get(_UPLOAD)
    if file is None:
        return
    with polite_errors():
        table = read_csv(file.getvalue())
        state[_SHOWN] = pd.DataFrame(
            [
                (r.request.prompt, r.request.subject, r.request.target_new, r.request.target_true)
                for r in table.rows
            ],
            columns=list(COLUMNS),
        )
        state[_LEFT_OUT] = table
        # Changes that were typed into the table before belong to other rows.
        state[_VERSION] = state.get(_VERSION, 0) + 1


def _checked(model: HookedModel, table: Table) -> Facts:
    """The facts of the table that this model can be given; says what becomes of the others."""
    file: Table = st.session_state.get(_LEFT_OUT, Table(()))
    for note in (*file.notes, *table.notes):
        st.caption(f":material/info: {note}")
    key = (fingerprint(model), table.rows)
    kept = st.session_state.get(_CHECKED)
    if kept is None or kept[0] != key:
        kept = key, _fitting(model, table.rows)
        st.session_state[_CHECKED] = kept
    rows, found, unfit = kept[1]
    _list("In the file", file.bad, "file")
    _list("In the table", (*table.bad, *unfit), "table")
    if not rows:
        raise EditingError("No row of the table is a fact that this model can be given.")
    place = {row.number: at for at, row in enumerate(rows)}
    pairs = tuple(tuple(place[row.number] for row in group) for group in contradictions(rows))
    if pairs:
        n = len(pairs)
        st.caption(
            f":material/info: {n} {'question has' if n == 1 else 'questions have'} two answers or "
            "more here. They are written all the same; look below what the model says then."
        )
    return Facts(found, tuple(row.number for row in rows), pairs)


def _fitting(
    model: HookedModel, rows: tuple[Row, ...]
) -> tuple[tuple[Row, ...], tuple[EvaluationRecord, ...], tuple[BadRow, ...]]:
    fit: list[Row] = []
    bad: list[BadRow] = []
    for row in rows:
        try:
            row.request.tokenize(model)
        except EditingError as error:
            bad.append(BadRow(row.number, str(error), row.request.prompt))
        else:
            fit.append(row)
    fit, same = _with_old_answers(model, fit)
    return tuple(fit), tuple(_record(model, row.request) for row in fit), (*bad, *same)


def _with_old_answers(model: HookedModel, rows: Sequence[Row]) -> tuple[list[Row], list[BadRow]]:
    """Rows without an old answer get what the model says now; it is what they are judged against.

    Rows whose new answer the model gives already are no edits.
    """
    asked = [Question(row.request.prompt, row.request.target_new) for row in rows]
    out: list[Row] = []
    same: list[BadRow] = []
    for row, said in zip(rows, ask_model(model, asked), strict=True):
        if said.exact:
            why = f"{model.cfg.name} says {row.request.target_new!r:.60} already."
            same.append(BadRow(row.number, why, row.request.prompt))
        elif row.request.target_true:
            out.append(row)
        else:
            out.append(replace(row, request=replace(row.request, target_true=_now(row, said))))
    return out, same


def _now(row: Row, said: Said) -> str:
    """The present answer: an object that the world has for this subject, else the next word."""
    text = said.text.strip()
    known = (f.object for f in facts_named(row.request.subject) if text.startswith(f.object))
    words = text.split()
    return next(known, words[0].rstrip(".,;:") if words else "")


def _record(model: HookedModel, request: EditRequest) -> EvaluationRecord:
    """The questions about a visitor's fact; one of the world's is given its relation's name."""
    record = record_of(model, request, sizes=SIZES)
    told = [q.relation for q in record.questions.get("paraphrase", ())]
    return replace(record, request=replace(request, relation=told[0])) if told else record


def _list(where: str, bad: tuple[BadRow, ...], key: str) -> None:
    if not bad:
        return
    n = len(bad)
    st.warning(
        f"{where} {n} {'row is' if n == 1 else 'rows are'} no fact that can be written; the others "
        "run without.",
        icon=":material/info:",
    )
    with st.expander(f"{where}: which rows, and why", key=f"mass_bad_{key}"):
        st.dataframe(
            pd.DataFrame([{"row": b.number, "why": b.reason, "prompt": b.prompt} for b in bad]),
            hide_index=True,
            width="stretch",
        )


def invitation() -> None:
    """What stands in the lab's place while there is no fact."""
    with st.container(border=True):
        st.markdown(
            "**No fact to write yet.** Type a sentence, its subject and the new answer into the "
            f"table, upload a file, or begin with the facts of {plain('the world')}."
        )
        st.button("Take facts of the world", key="begin_world", on_click=_to_the_world)


def _to_the_world() -> None:
    st.session_state["source"] = WORLD
