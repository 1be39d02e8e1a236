"""The app run in process, page by page."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "app" / "main.py"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from app import warmup  # noqa: E402

Open = Callable[..., AppTest]
# No thread beside the tests: what a page needs is loaded when it asks.
warmup._started.acquire(blocking=False)


@pytest.fixture
def open_page() -> Open:
    """``open_page("logit_lens", prompt="...")``: the page as that address opens it, run once."""
    st.cache_data.clear()

    def opened(page: str, **params: str) -> AppTest:
        at = AppTest.from_file(str(MAIN), default_timeout=120)
        at.query_params.update(params)
        at.run()
        if page != "home":
            at.switch_page(f"../pages/{page}.py")
            at.query_params.update(params)
            at.run()
        return at

    return opened
