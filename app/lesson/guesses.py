"""Predictions on the page: commit a guess, then see what the model gives."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.errors import plain, polite_errors
from app.lesson import progress, state, words
from app.lesson.evaluate import score, shown, shown_layer, truth
from app.lesson.format import Lesson, Predict
from app.lesson.pieces import key_of, submit, submitted
from app.models import chosen_name

_MAX_CHARS = 200


def draw_predict(lesson: Lesson, block: Predict) -> None:
    """The question with an input for the guess, or once it is committed the truth beside it."""
    key = key_of("predict", lesson, block.id)

    @st.fragment(key=key)
    def piece() -> None:
        with st.container(border=True), polite_errors():
            st.caption(":material/psychology_alt: Predict, before you look")
            words.write(block.question, where=key)
            _compute_pending(lesson, block, key)
            record = state.part_of(lesson)["predictions"].get(block.id)
            if record is None:
                _ask(lesson, block, key)
            else:
                _reveal(block, record, key)

    piece()


def _ask(lesson: Lesson, block: Predict, key: str) -> None:
    with st.form(f"{key}-form", border=False):
        guess_input(block, f"{key}-guess")
        st.form_submit_button("Commit my guess", on_click=_commit, args=(key,))


def guess_input(block: Predict, key: str) -> None:
    """The input that this kind of guess needs, empty at first."""
    if block.kind == "choice":
        st.radio("Your guess", list(block.options), index=None, key=key)
    elif block.kind == "token":
        st.text_input("Your guess, one word", key=key, max_chars=_MAX_CHARS)
    elif block.kind == "layer":
        st.number_input(
            "Your guess: after which block",
            value=None,
            min_value=-1,
            max_value=200,
            step=1,
            key=key,
            help="Blocks are counted from 0; -1 stands for the embedding, before any block.",
        )
    else:
        unit = f", in {block.unit}" if block.unit else ""
        st.number_input(f"Your guess{unit}", value=None, step=None, format="%g", key=key)


def _commit(key: str) -> None:
    submit(key, st.session_state.get(f"{key}-guess"))


def _compute_pending(lesson: Lesson, block: Predict, key: str) -> None:
    guess = submitted(key)
    if guess is None:
        return
    with st.spinner("Running the model"):
        true = truth(state.bench(lesson), block)
    record = {
        "guess": guess,
        "truth": true,
        "score": score(block, guess, true),
        "model": chosen_name(),
    }
    progress.commit(state.part_of(lesson), block.id, record)


def _reveal(block: Predict, record: dict[str, Any], key: str) -> None:
    say = shown_layer if block.kind == "layer" else shown
    guess, true = plain(say(record["guess"])), plain(say(record["truth"]))
    words.write(block.reveal.format(guess=f"**{guess}**", truth=f"**{true}**"), where=f"{key}-told")
    won = record["score"]
    badge = "green" if won > 0.99 else "blue" if won > 0 else "orange"
    st.markdown(
        f":{badge}-badge[score {won:.2f} of 1] :small[on {plain(record['model'])}; kept for your "
        "summary]"
    )
