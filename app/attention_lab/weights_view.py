"""What a head's weights say of one token, without any prompt: its OV and its QK circuit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.attention_cache import ask
from app.attention_lab.asked import Scene
from app.errors import plain
from app.lens_lab.request import one_token
from lens_core.attention import OVPromoted, QKAttended, ov_promoted, qk_attended
from lens_core.model.errors import TokenError
from lens_core.plots import visible

if TYPE_CHECKING:
    import pandas as pd


def controls() -> None:
    """The token that the weights are asked about."""
    st.text_input(
        "Ask the weights about",
        key="token",
        bind="query-params",
        persist_state="page",
        max_chars=60,
        placeholder="the chosen source",
        help="One token. Empty: the chosen source for what is carried over, the chosen destination "
        "for what is looked for.",
    )


def draw(scene: Scene) -> None:
    """Two short lists: what looking at the token makes likelier, what the token would look at."""
    ov, qk = read_weights(scene)
    left, right = st.columns(2)
    with left:
        st.markdown(f"**Looking at {plain(visible(ov.token))} makes likelier** (OV)")
        st.dataframe(_table(ov.promoted, ov.promoted_logits, "logit"), hide_index=True)
        st.caption(
            f"Least likely: {_listed(ov.suppressed)}. Of {scene.model.cfg.d_vocab:,} tokens the "
            f"token itself is number {ov.own_rank:,}; in a head that copies it is the first."
        )
    with right:
        st.markdown(f"**{plain(visible(qk.token))} would look at** (QK)")
        st.dataframe(_table(qk.attended, qk.attended_scores, "score"), hide_index=True)
        st.caption(
            f"Least of all: {_listed(qk.avoided)}. Over the vocabulary the scores have mean "
            f"{qk.mean_score:.2f} and standard deviation {qk.std_score:.2f}."
        )
    st.caption(
        "From the weights alone, on the direct path: from the bare embedding through this head to "
        "the logits. A later head reads what earlier layers wrote, so this is what it could do, "
        "not what it did on your prompt."
    )


def asked_tokens(scene: Scene) -> tuple[int, int]:
    """The tokens for OV and QK: the one that was typed, or the chosen source and destination."""
    typed = scene.settings.token
    if typed.strip():
        try:
            one = one_token(scene.model, typed)
        except TokenError as error:
            st.warning(plain(f"{error} Shown instead: the chosen edge."), icon=":material/info:")
        else:
            return one, one
    return scene.token_ids[scene.edge["src"]], scene.token_ids[scene.edge["dest"]]


def read_weights(scene: Scene) -> tuple[OVPromoted, QKAttended]:
    """Both circuits of the chosen head."""
    of, by = asked_tokens(scene)
    ov = ask(scene.model, ov_promoted, **scene.where, token=of).result
    return ov, ask(scene.model, qk_attended, **scene.where, token=by).result


def _table(tokens: tuple[str, ...], values: object, name: str) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    return pd.DataFrame(
        {"token": [visible(token) for token in tokens], name: np.round(np.asarray(values), 3)}
    )


def _listed(tokens: tuple[str, ...]) -> str:
    return ", ".join(plain(visible(token)) for token in tokens[:4])
