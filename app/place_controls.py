"""Controls for a place in the model or the prompt, which clicks in a view set as well."""

from __future__ import annotations

import streamlit as st


def one_of(label: str, key: str, count: int, *, help: str) -> None:
    """One of so many layers or heads."""
    options, state = [str(n) for n in range(count)], st.session_state
    if isinstance(state.get(key), int):
        state[key] = str(state[key])  # a lesson gives numbers
    if key in state and state[key] not in options:
        del state[key]  # the lens lab has an embedding row, and models differ in size
    st.selectbox(label, options, key=key, bind="query-params", help=help)


def position(label: str, key: str, n_tokens: int, *, empty: str, help: str) -> None:
    """A token of the prompt; ``empty`` is the one that is meant where none is chosen."""
    state = st.session_state
    if isinstance(state.get(key), int) and state[key] < 0:
        state[key] += n_tokens  # lessons count from the end
    if state.get(key) is not None and not 0 <= state[key] < n_tokens:
        state[key] = None
    st.number_input(
        label,
        min_value=0,
        max_value=n_tokens - 1,
        value=None,
        step=1,
        key=key,
        bind="query-params",
        placeholder=empty,
        help=help,
    )
