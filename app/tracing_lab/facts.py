"""The fact: its picker, or the learner's own sentence with its subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.attention_cache import ask
from app.errors import plain
from lens_core.glass.facts import FACTS, NAME
from lens_core.world.datasets import FactPrompt, known_facts

if TYPE_CHECKING:
    from lens_core import HookedModel

PROMPT, SUBJECT = "prompt", "subject"
FIRST = ("The Eiffel Tower is in the city of", "Eiffel Tower")
# Sentences whose subject is known without asking, for prompts that other labs bring along.
_KNOWN = {FIRST[0]: FIRST[1], "In Japan, the capital is": "Japan"}
N_OFFERED, MAX_CHARS = 24, 1000


@dataclass(frozen=True)
class Offered:
    """A fact in the picker: its sentence, the subject as it stands there, and the object."""

    prompt: str
    subject: str
    object: str


def choose_fact(
    model: HookedModel, *, used: str = "The tokens of these words are corrupted."
) -> tuple[str, str]:
    """The prompt and its subject; the URL holds both. ``used`` says what the subject is for."""
    state = st.session_state
    facts = {fact.prompt: fact for fact in ask(model, offered_facts).result}
    prompt = st.text_input(
        "A sentence that a fact completes",
        value=FIRST[0],
        key=PROMPT,
        bind="query-params",
        max_chars=MAX_CHARS,
        placeholder="The Eiffel Tower is in the city of",
    )
    if SUBJECT not in state and SUBJECT not in st.query_params:
        # Another lab has brought its prompt along.
        fact = facts.get(prompt)
        state[SUBJECT] = fact.subject if fact else _KNOWN.get(prompt, "")
    subject = st.text_input(
        "Its subject, as it stands in the sentence",
        key=SUBJECT,
        bind="query-params",
        max_chars=200,
        placeholder="the words that the fact is about",
        help=used,
    )
    _picker(facts, prompt)
    return prompt, subject


def _picker(facts: dict[str, Offered], prompt: str) -> None:
    if not facts:
        return
    st.session_state["fact"] = prompt if prompt in facts else None
    st.selectbox(
        "Or a fact that this model knows",
        list(facts),
        index=None,
        key="fact",
        format_func=lambda text: f"{text} {facts[text].object}",
        placeholder=f"{len(facts)} facts",
        on_change=_take,
        args=(facts,),
    )


def _take(facts: dict[str, Offered]) -> None:
    chosen = st.session_state["fact"]
    if chosen is not None:
        take(chosen, facts[chosen].subject)


def take(prompt: str, subject: str) -> None:
    """Set both, and let go of the place that was chosen in another sentence."""
    state = st.session_state
    state[PROMPT], state[SUBJECT], state["at"] = prompt, subject, None


def subject_of(fact: FactPrompt) -> str:
    """The subject as it stands in the sentence, which may write it with a small letter."""
    return fact.prompt[slice(*fact.subject_chars)]


def offered_facts(model: HookedModel) -> tuple[Offered, ...]:
    """Facts that the model answers; none for models that know nothing of either world."""
    if model.cfg.name == NAME:
        return tuple(Offered(f.prompt, f.subject, f.answer.strip()) for f in FACTS)
    known = known_to(model, N_OFFERED, seed=1)
    return tuple(Offered(f.prompt, subject_of(f), f.object) for f in known)


def known_to(model: HookedModel, n: int, seed: int) -> tuple[FactPrompt, ...]:
    """At most ``n`` facts whose object is the model's first choice, drawn at random."""
    if model.cfg.name.startswith("glass") or not getattr(model.tokenizer, "is_fast", False):
        return ()
    try:
        facts = known_facts(
            model.tokenizer, 3 * n, seed, multi_token_subject=True, single_token_object=True
        )
    except ValueError:
        return ()
    found = []
    for fact in facts:
        answer = int(model.to_tokens(f" {fact.object}", prepend_bos=False)[0, 0])
        if int(model.run(fact.prompt, last_logits_only=True)[0, -1].argmax()) == answer:
            found.append(fact)
        if len(found) == n:
            break
    return tuple(found)


def invitation() -> None:
    """What stands in the lab's place while the sentence or its subject is missing."""
    with st.container(border=True):
        st.markdown(
            "**Tracing needs a sentence and its subject.** Type both above, choose a fact, or "
            "begin here:"
        )
        for prompt, subject in _KNOWN.items():
            st.button(
                plain(f"{prompt} (subject: {subject})"),
                key=f"begin_{subject}",
                on_click=take,
                args=(prompt, subject),
            )
