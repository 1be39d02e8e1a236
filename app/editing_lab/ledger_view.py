"""The ledger on the page: every edit of this visit, with its switch, its place, its name."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import streamlit as st

from app.editing_lab import ledger as visit
from app.errors import plain, polite_errors
from lens_core.editing import Ledger, bake

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.editing import Edit, Entry

_MOST_BAKED_MB, _MOST_UPLOAD_MB = 600, 50
_SAID, _UNDONE = "edit_ledger_said", "edit_undone"


def draw(model: HookedModel) -> None:
    """All edits, and what can be done with them together."""
    ledger = visit.of(model)
    n, n_on = len(ledger), len(ledger.active)
    with st.container(border=True, key="ledger"):
        st.markdown(f"##### Your edits: {n_on} of {n} hold" if n else "##### Your edits: none yet")
        st.caption(
            "They are of this visit alone, and no weight is ever changed: with an edit switched "
            "off, the model is the one that was loaded, to the last bit."
        )
        for place, entry in enumerate(ledger.entries):
            _line(model, entry, place)
        if n > 1:
            st.caption(
                "A later edit was computed on top of the earlier ones that held then. What is left "
                "when one below it is taken out may do less, or more, than it did."
            )
        _files(model, ledger)


def undo_button(model: HookedModel, *, key: str) -> None:
    """Take the newest edit back; always in view, idle while there is none."""
    entries = visit.of(model).entries
    st.button(
        "Undo",
        key=key,
        icon=":material/undo:",
        disabled=not entries,
        on_click=_undo,
        args=(model,),
        help=f"Takes back {plain(entries[-1].name)}" if entries else "There is no edit yet.",
    )
    # Not the button's own answer: one that has become idle answers no, pressed or not.
    if st.session_state.pop(_UNDONE, False):
        st.rerun()  # the sidebar counts the edits


def _undo(model: HookedModel) -> None:
    visit.undo(model)
    st.session_state[_UNDONE] = True


def _line(model: HookedModel, entry: Entry, place: int) -> None:
    ledger = visit.of(model)
    key = f"edit_{_safe(model.cfg.name)}_{entry.key}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        on = st.checkbox(f"Edit {place + 1} holds", entry.on, key=f"{key}_on",
                         label_visibility="collapsed")  # fmt: skip
        name = st.text_input(
            f"Name of edit {place + 1}", entry.name, key=f"{key}_name", max_chars=120,
            label_visibility="collapsed",
        )  # fmt: skip
        up = st.button("", icon=":material/arrow_upward:", key=f"{key}_up", disabled=place == 0,
                       help=f"Move edit {place + 1} up")  # fmt: skip
        gone = st.button("", icon=":material/delete:", key=f"{key}_gone",
                         help=f"Undo edit {place + 1}")  # fmt: skip
    if on != entry.on:
        ledger.switch(entry.key, on)
    if name and name != entry.name:
        ledger.rename(entry.key, name)
    if up:
        ledger.move(entry.key, place - 1)
    if gone:
        ledger.remove(entry.key)
    if gone or up or on != entry.on:
        st.rerun()


def _files(model: HookedModel, ledger: Ledger) -> None:
    said = st.session_state.pop(_SAID, None)
    if said:
        st.success(plain(said), icon=":material/check:")
    with st.expander("Take your edits along, or bring them back"):
        with st.container(horizontal=True):
            st.download_button(
                "Export the ledger",
                lambda: ledger.to_bytes(),
                file_name=visit.file_name(model.cfg.name),
                mime="application/octet-stream",
                on_click="ignore",
                icon=":material/download:",
                disabled=not len(ledger),
            )
            _baked(model, ledger)
        brought = st.file_uploader(
            "Import a ledger that was exported here", type=[visit.FILE_TYPE], key="ledger_file",
            max_upload_size=_MOST_UPLOAD_MB,
        )  # fmt: skip
        if brought is not None and st.button("Add these edits to mine", key="ledger_import"):
            with polite_errors():
                n = _import(model, brought.getvalue())
                st.session_state[_SAID] = f"{n} edit{'s were' if n != 1 else ' was'} added."
                st.rerun()


def _import(model: HookedModel, data: bytes) -> int:
    """Add what the file holds; raises EditingError for one that is not this model's."""
    theirs = Ledger.from_bytes(data, model)
    for entry in theirs.entries:
        visit.of(model).add(entry.edit, on=entry.on, name=entry.name)
    return len(theirs)


def _baked(model: HookedModel, ledger: Ledger) -> None:
    megabytes = sum(p.numel() * p.element_size() for p in model.hf_model.parameters()) / 1e6
    held = [entry.edit for entry in ledger.active if entry.edit.interventions]
    too_large = megabytes > _MOST_BAKED_MB
    st.download_button(
        f"Edited model ({megabytes:.0f} MB)",
        lambda: baked_zip(model, held),
        file_name=f"{_safe(model.cfg.name)}-edited.zip",
        mime="application/zip",
        on_click="ignore",
        icon=":material/download:",
        disabled=too_large or not held,
        help=f"At most {_MOST_BAKED_MB} MB are made here; lens_core.editing.bake has no such limit."
        if too_large
        else "A folder that transformers loads by itself, with the edits that hold written into "
        "its weights.",
    )


def baked_zip(model: HookedModel, edits: list[Edit]) -> bytes:
    """A checkpoint with the edits in its weights, as a zip."""
    out = BytesIO()
    with TemporaryDirectory() as name:
        folder = Path(name) / "model"
        bake(model, edits, folder)
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    packed.write(file, f"{_safe(model.cfg.name)}-edited/{file.relative_to(folder)}")
    return out.getvalue()


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
