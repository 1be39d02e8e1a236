"""The edits of this visit: one ledger a model, in the session, seen by nobody else.

The shell asks here too, so nothing heavy is imported before a visitor has an edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.travel import here

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.editing import Edit, Ledger

# The switch in the sidebar: whether the other labs look into the edited model.
EVERYWHERE = "edits_everywhere"
# Pages that compare with the model as it was loaded.
OWN_PAGES = ("editing", "mass-editing")
_LEDGERS = "edit_ledgers"
FILE_TYPE = "safetensors"


def of(model: HookedModel) -> Ledger:
    """This visit's ledger of the model, begun when first asked for."""
    from lens_core.editing import Ledger

    ledgers: dict[str, Ledger] = st.session_state.setdefault(_LEDGERS, {})
    name = model.base.cfg.name
    if name not in ledgers:
        ledgers[name] = Ledger(model.base)
    return ledgers[name]


def n_holding(model_name: str) -> int:
    """How many edits of that model's weights hold in this visit."""
    ledger: Ledger | None = st.session_state.get(_LEDGERS, {}).get(model_name)
    return 0 if ledger is None else sum(bool(e.edit.interventions) for e in ledger.active)


def everywhere(model: HookedModel) -> HookedModel:
    """What the lab in view looks into: the model, or it with the visit's edits if they said so."""
    wanted = st.session_state.get(EVERYWHERE) and here() not in OWN_PAGES
    return of(model).model(model) if wanted and n_holding(model.cfg.name) else model


def sidebar_switch(model_name: str) -> None:
    """The line that says which model the labs look into, and its switch; nothing without edits."""
    n = n_holding(model_name)
    if not n:
        return
    count = "1 edit" if n == 1 else f"{n} edits"
    on = st.toggle(
        "My edits in every lab",
        key=EVERYWHERE,
        help="Lenses, heads, patching and tracing then look into the edited model. The labs of "
        "editing compare with the model as it was loaded.",
    )
    st.caption(
        f":material/edit: Every lab looks into the model with your {count}."
        if on
        else f"The editing lab alone shows your {count}."
    )


def with_edits(code: str, model: HookedModel) -> str:
    """A lab's script that loads the edited model, made one that can: it reads the exported ledger.

    The same script for a model without edits.
    """
    if model is model.base:
        return code
    base = model.base.cfg.name
    lines = (
        f"model = HookedModel.from_pretrained({base!r})\n"
        "# Your edits, as the page of rank-one editing exports them.\n"
        "from lens_core.editing import Ledger\n"
        f"model = Ledger.from_bytes(open({file_name(base)!r}, 'rb').read(), model).model(model)"
    )
    return code.replace(f"model = HookedModel.from_pretrained({model.cfg.name!r})", lines)


def file_name(model_name: str) -> str:
    """Of an exported ledger."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in model_name)
    return f"edits-{safe}.{FILE_TYPE}"


def keep(model: HookedModel, edit: Edit, name: str | None = None) -> None:
    """Put an edit at the end of the visit's ledger."""
    of(model).add(edit, name=name)


def undo(model: HookedModel) -> None:
    """Take the newest edit back."""
    ledger = of(model)
    if ledger.entries:
        ledger.undo()
