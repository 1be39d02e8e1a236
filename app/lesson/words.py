"""A lesson's text on the page: Markdown, with each term a button that shows its definition."""

from __future__ import annotations

import html
import re

import streamlit as st

from app.lesson import glossary

# A button may be broken off from what follows it, and a line should not begin with a full stop.
_WITH_STOP = re.compile(r"(<button [^<]*</button><span [^<]*</span>)([.,;:!?)]+)")


def write(markdown: str, *, where: str) -> None:
    """Draw a lesson's own text, never a visitor's; ``where`` keeps its terms' ids apart.

    A term is a button with a native popover: it opens by tap, click, Enter and Space, closes by
    Escape, shows on hover by style alone, and is read out as the button's description.
    """
    if not any(glossary.uses(markdown)):
        st.markdown(markdown)
        return
    # The only HTML is the buttons: a lesson that holds any of its own is refused when it is read.
    st.markdown(_with_terms(markdown, where), unsafe_allow_html=True)


def _with_terms(markdown: str, where: str) -> str:
    count = 0

    def button(shown: str, entry: str) -> str:
        nonlocal count
        count += 1
        name = f"term-{re.sub(r'[^a-z0-9-]+', '-', where.lower())}-{count}"
        definition = html.escape(glossary.terms()[entry])
        return (
            f'<button type="button" class="term" popovertarget="{name}" aria-describedby="{name}">'
            f"{html.escape(shown)}</button>"
            f'<span class="definition" id="{name}" popover="auto">{definition}</span>'
        )

    return _WITH_STOP.sub(
        r'<span class="term-and-stop">\1\2</span>', glossary.replace(markdown, button)
    )
