"""The case file: the one prompt that travels from lab to lab, and the presets to start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from app.errors import plain
from app.presets import Preset

if TYPE_CHECKING:
    from lens_core import HookedModel

KEY = "prompt"


def case_file(presets: Sequence[Preset], *, max_chars: int = 2000) -> str:
    """Ask for the prompt, presets below it; the URL holds the text and other labs get it too."""
    prompt = st.text_input(
        "Your prompt",
        value=presets[0].prompt,
        key=KEY,
        bind="query-params",
        max_chars=max_chars,
        placeholder="Type the start of a sentence and press Enter, or take an example below",
    )
    names = {preset.name: preset for preset in presets}
    here = next((preset.name for preset in presets if preset.prompt == prompt), None)
    st.session_state["preset"] = here
    st.pills(
        "Examples",
        list(names),
        key="preset",
        on_change=_take_preset,
        args=(names,),
        label_visibility="collapsed",
        wrap=True,
    )
    if here is not None:
        st.caption(f"{names[here].why} *{names[here].see}*")
    return prompt


def _take_preset(presets: dict[str, Preset]) -> None:
    chosen = st.session_state["preset"]
    # A second click on the chosen example lets go of it and leaves the prompt.
    if chosen is not None:
        st.session_state[KEY] = presets[chosen].prompt


def invitation(presets: Sequence[Preset]) -> None:
    """What stands in the lab's place while there is no prompt."""
    with st.container(border=True):
        st.markdown(
            "**Nothing to look into yet.** Type the start of a sentence above, or begin here:"
        )
        for preset in presets[:3]:
            st.button(
                plain(preset.prompt),
                key=f"begin_{preset.name}",
                on_click=_set_prompt,
                args=(preset.prompt,),
            )


def note_unknown_words(model: HookedModel, prompt: str) -> None:
    """Say so where the model reads words of the prompt as its unknown token, and offer others.

    A glass model has a few dozen words, and the case file's prompt was written for another model.
    """
    unknown = model.tokenizer.unk_token_id
    if unknown is None or unknown in (model.tokenizer.bos_token_id, model.tokenizer.eos_token_id):
        return
    n_unknown = int((model.to_tokens(prompt) == unknown).sum())
    if not n_unknown:
        return
    special = set(model.tokenizer.all_special_ids)
    ids = [i for i in range(model.cfg.d_vocab) if i not in special]
    words = [model.to_string([i]) for i in ids]
    known = " ".join((*words[:3], words[0]))
    what = "word" if n_unknown == 1 else "words"
    st.info(
        f"{plain(model.cfg.name)} knows {len(words)} words and reads {n_unknown} {what} of this "
        f"prompt as {plain(str(model.tokenizer.unk_token))}. Some that it knows: "
        f"{plain(', '.join(words[:12]))}.",
        icon=":material/info:",
    )
    st.button(f"Try {plain(known)}", key="known_words", on_click=_set_prompt, args=(known,))


def _set_prompt(prompt: str) -> None:
    st.session_state[KEY] = prompt
