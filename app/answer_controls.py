"""Controls that labs share: rows of choices, the start token, which answer is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from lens_core import HookedModel

FINAL, NEXT = "final answer", "next token"


def choice(label: str, options: Mapping[str, str], key: str, start: str) -> str:
    """A row of choices, ``start`` first chosen; each explains itself in the help."""
    if st.session_state.get(key, start) not in options:
        del st.session_state[key]
    chosen = st.segmented_control(
        label,
        list(options),
        default=start,
        required=True,
        key=key,
        bind="query-params",
        persist_state="page",
        help="  \n".join(f"**{name}**: {what}" for name, what in options.items()),
    )
    return chosen or start


def start_token(model: HookedModel) -> bool:
    """Whether the prompt begins with the model's start token."""
    return st.checkbox(
        "Begin with the model's start token",
        value=model.default_prepend_bos,
        disabled=model.bos_id is None,
        key="bos",
        bind="query-params",
        help="Most models were trained with a token that marks the start of a text. Without it "
        "the first tokens are read as if they stood in the middle of one.",
    )


def target_and_foil(
    *, about: str, foil_for: str, without_foil: str = "the runner-up"
) -> tuple[str, str]:
    """The answer's token and the one that it is weighed against, as they were typed.

    ``about`` and ``foil_for`` say what this lab does with them, ``without_foil`` what stands in for
    a foil that is not named.
    """
    left, right = st.columns(2)
    target = left.selectbox(
        "Target",
        [FINAL, NEXT],
        key="target",
        bind="query-params",
        accept_new_options=True,
        placeholder="choose, or type a word",
        help=f"{about}: what the model says in the end, what really follows in the prompt, or a "
        "word that you type.",
    )
    foil = right.text_input(
        "Foil",
        key="foil",
        bind="query-params",
        max_chars=60,
        placeholder=without_foil,
        help=f"The word that the target is weighed against {foil_for}.",
    )
    return target or FINAL, foil or ""
