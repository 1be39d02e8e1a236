"""Light or dark: which of the two palettes the visitor's page has."""

import streamlit as st


def is_dark() -> bool:
    """The visitor's page is dark. Before the browser has said, it is taken to be light."""
    return st.context.theme.type == "dark"
