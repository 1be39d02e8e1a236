"""Entry point, ``streamlit run app/main.py``: paints the shell, then runs the page of the URL."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
# Streamlit's watcher reloads a changed lens_core only when it is found through PYTHONPATH.
_paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(_paths))

import streamlit as st  # noqa: E402

from app import warmup  # noqa: E402
from app.errors import polite_errors  # noqa: E402
from app.lesson.state import want  # noqa: E402
from app.shell import STATIC, model_badge, navigation, sidebar  # noqa: E402
from app.travel import brought_along  # noqa: E402

# torch takes seconds to import: it begins now, in another thread, while the page is painted.
warmup.start()
st.set_page_config(
    page_title="Lens Lab",
    page_icon=STATIC / "mark.svg",
    layout="wide",
    initial_sidebar_state=248,
)
st.html(ROOT / "app" / "style.css")

page = navigation()
badge = sidebar()
want(brought_along(page.url_path))
with polite_errors():
    page.run()
model_badge(badge)
