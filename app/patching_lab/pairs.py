"""The two prompts: their controls, the examples to start from, and the pair that a model makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
import yaml

from app.errors import plain

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.patching import PromptPair

CLEAN, CORRUPTED = "prompt", "corrupted"
MAX_CHARS = 1000
_FILE = Path(__file__).resolve().parents[2] / "content" / "datasets" / "patching_presets.yaml"


@dataclass(frozen=True)
class PairPreset:
    """Two prompts, a short name for their button, what differs and what to look for."""

    name: str
    prompt: str
    corrupted: str
    why: str
    see: str


PAIR_PRESETS = tuple(
    PairPreset(**entry) for entry in yaml.safe_load(_FILE.read_text(encoding="utf-8"))
)


@dataclass(frozen=True)
class PairKey:
    """A pair as plain values, by which its results are kept."""

    clean: str
    corrupted: str
    answer: int
    foil: int | None
    align: str = "length"
    bos: bool | None = None

    def pair(self, model: HookedModel) -> PromptPair:
        """The pair's tokens. Raises AlignmentError for prompts that do not match."""
        from lens_core.patching import prompt_pair

        return prompt_pair(
            model,
            self.clean,
            self.corrupted,
            self.answer,
            self.foil,
            align="pad" if self.align == "pad" else "length",
            prepend_bos=self.bos,
        )


def two_prompts() -> tuple[str, str]:
    """Ask for both, with the examples below them; the URL holds the texts."""
    state = st.session_state
    first = PAIR_PRESETS[0]
    clean = st.text_input(
        "Clean prompt",
        value=first.prompt,
        key=CLEAN,
        bind="query-params",
        max_chars=MAX_CHARS,
        placeholder="The start of a sentence that the model continues well",
        help="Its answer is the right one. In both prompts a part may stand in [brackets]: it may "
        "then have more tokens in the one than in the other.",
    )
    if CORRUPTED not in state and CORRUPTED not in st.query_params:
        # Another lab has brought its prompt along: the example's partner, if it is one.
        state[CORRUPTED] = next((p.corrupted for p in PAIR_PRESETS if p.prompt == clean), "")
    corrupted = st.text_input(
        "Corrupted prompt",
        key=CORRUPTED,
        bind="query-params",
        max_chars=MAX_CHARS,
        placeholder="The same, with the word exchanged that decides the answer",
        help="Equally many tokens, the same but for what the question is about; its answer is "
        "another one.",
    )
    _examples(clean, corrupted)
    return clean, corrupted


def _examples(clean: str, corrupted: str) -> None:
    names = {preset.name: preset for preset in PAIR_PRESETS}
    here = next(
        (p.name for p in PAIR_PRESETS if (p.prompt, p.corrupted) == (clean, corrupted)), None
    )
    st.session_state["pair_preset"] = here
    st.pills(
        "Examples",
        list(names),
        key="pair_preset",
        on_change=_take_preset,
        label_visibility="collapsed",
        wrap=True,
    )
    if here is not None:
        st.caption(f"{names[here].why} *{names[here].see}*")


def _take_preset() -> None:
    chosen = st.session_state["pair_preset"]
    # A second click on the chosen example lets go of it and leaves the prompts.
    if chosen is not None:
        take_pair(next(preset for preset in PAIR_PRESETS if preset.name == chosen))


def take_pair(preset: PairPreset) -> None:
    """Set both prompts, and let go of what was chosen in others."""
    state = st.session_state
    state[CLEAN], state[CORRUPTED] = preset.prompt, preset.corrupted
    state["at"] = None


def invitation() -> None:
    """What stands in the lab's place while a prompt is missing."""
    with st.container(border=True):
        st.markdown(
            "**Patching needs two prompts.** Type the same sentence twice with one word exchanged, "
            "or begin here:"
        )
        for preset in PAIR_PRESETS[:3]:
            st.button(
                plain(f"{preset.prompt} / {preset.corrupted}"),
                key=f"begin_{preset.name}",
                on_click=take_pair,
                args=(preset,),
            )
