"""The shell around every page: the course as navigation, and the choice of the model."""

from __future__ import annotations

import html
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.editing_lab.ledger import sidebar_switch
from app.errors import plain
from app.models import DEFAULT_MODEL, chosen_model, chosen_name, needs, offered
from app.syllabus import LABS, Lab, by_unit
from app.theme import is_dark
from app.travel import SELECTION, remembered

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator
    from streamlit.navigation.page import StreamlitPage

ROOT = Path(__file__).resolve().parent.parent
_CHECKED = (
    "When a model loads, a few tokens are run through it with and without the lab's taps: the "
    "logits must be equal, the parts must add up, the lens at the last block must be the output, "
    "and a change at each site must move the output."
)
PAGES = ROOT / "pages"
STATIC = ROOT / "app" / "static"


def navigation() -> StreamlitPage:
    """Declare the open pages; the sidebar draws them, beside the labs to come."""
    pages = [st.Page(PAGES / "home.py", title="Lens Lab", default=True)]
    pages += [
        st.Page(PAGES / f"{lab.page}.py", title=lab.title, url_path=lab.page.replace("_", "-"))
        for lab in LABS
        if lab.page
    ]
    return st.navigation(pages, position="hidden")


def sidebar() -> DeltaGenerator:
    """The model and the whole course, labs to come as mere text; returns the badge's slot."""
    logo = "logo-dark.svg" if is_dark() else "logo-light.svg"
    st.logo(STATIC / logo, icon_image=STATIC / "mark.svg", size="large")
    with st.sidebar:
        _model_picker()
        badge = st.empty()
        badge.markdown(":gray-badge[loading]")
        with st.container(key="course", gap=None):
            st.page_link(PAGES / "home.py", label="Overview", query_params=carried())
            for unit, labs in by_unit():
                _unit(unit, labs)
    return badge


def model_badge(slot: DeltaGenerator) -> None:
    """Load the chosen model if no page has, and say whether it passed its self-check."""
    # Imported here: the shell must paint before lens_core, and with it torch, is there.
    from lens_core.model.errors import LensError

    try:
        model = chosen_model().base
        report = model.report or model.self_check()
    except LensError:
        # The page that needs the model says why.
        slot.markdown(":red-badge[:material/error: not loaded]")
        return
    failed = [check.name for check in report.checks if not check.ok]
    if failed:
        note = f"self-check: {plain(', '.join(failed))} failed"
        slot.markdown(f":orange-badge[:material/warning: {note}]", help=plain(str(report)))
    else:
        note = f"self-check: all {len(report.checks)} passed"
        slot.markdown(f":green-badge[:material/check: {note}]", help=_CHECKED)


def _unit(unit: str, labs: list[Lab]) -> None:
    st.html(f"<p class='course-unit'>{html.escape(unit)}</p>")
    for is_open, group in groupby(labs, key=lambda lab: lab.page is not None):
        if is_open:
            for lab in group:
                link(str(lab.page), lab.title)
        else:
            items = "".join(
                f"<li>{html.escape(lab.title)} <span>to come</span></li>" for lab in group
            )
            st.html(f"<ul class='course-to-come'>{items}</ul>")


def link(page: str, label: str, *, icon: str | None = None) -> None:
    """A link to an open lab that takes the model and the case-file prompt along."""
    st.page_link(PAGES / f"{page}.py", label=label, icon=icon, query_params=carried())


def carried() -> dict[str, str]:
    """What travels from lab to lab, unless it is default: model, case-file prompt, selection."""
    names = ("model", "prompt")
    values = {name: st.session_state.get(name) or st.query_params.get(name) for name in names}
    chosen = {name: st.query_params.get(name) for name in SELECTION}
    values = remembered() | {name: value for name, value in (values | chosen).items() if value}
    return {name: str(value) for name, value in values.items() if value != DEFAULT_MODEL}


def _model_picker() -> None:
    names = offered()
    st.selectbox(
        "Model",
        names,
        index=names.index(DEFAULT_MODEL),
        key="model",
        bind="query-params",
        help="The model that every lab looks into. It is loaded once and shared by all visitors; "
        "those from the hub are fetched when chosen.",
    )
    st.caption(needs(chosen_name()))
    sidebar_switch(chosen_name())
