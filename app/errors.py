"""What a visitor sees instead of a traceback."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

log = logging.getLogger(__name__)

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")


def plain(text: str) -> str:
    """Text as it stands where Streamlit would read Markdown: no image, link, colour or formula."""
    return _MARKDOWN.sub(r"\\\1", text)


@contextmanager
def polite_errors() -> Iterator[None]:
    """Show a LensError as its own sentence, anything else as a short apology; log the latter."""
    try:
        yield
    except Exception as error:
        # Imported here: the shell must paint before lens_core, and with it torch, is there.
        from lens_core.model.errors import LensError

        if isinstance(error, LensError):
            st.error(plain(str(error)), icon=":material/info:")
            return
        log.exception("a page failed")
        st.error(
            "Something went wrong here that should not have. The other labs still work; "
            "the server's log says what happened.",
            icon=":material/error:",
        )
