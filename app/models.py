"""The models of the lab: one copy of each for all visitors, and the one that this visitor chose."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import streamlit as st

from app.editing_lab.ledger import everywhere

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.model.errors import LensError

DEFAULT_MODEL = "tiny-world"


@st.cache_resource(max_entries=3, show_spinner=False)
def load_model(name: str) -> HookedModel:
    """The model by that name, loaded once for all visitors; raises as ``from_pretrained`` does."""
    import torch

    from lens_core import HookedModel

    # Several visitors compute at once; a model that takes every core would make them all wait.
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    return HookedModel.from_pretrained(name)


@st.cache_data(ttl="30s", max_entries=100, show_spinner=False)
def _why_not(name: str) -> LensError | None:
    """Why it cannot be loaded, remembered for a while: no run waits twice for an absent hub."""
    from lens_core.model.errors import LensError

    try:
        load_model(name)
    except LensError as error:
        return error
    return None


def offered() -> list[str]:
    """The names that a visitor may choose: the shipped models, then those of the hub."""
    from lens_core.model.catalogue import entries
    from lens_core.model.sources import allowed_models

    allowed = allowed_models()
    known = [entry.id for entry in entries() if allowed is None or entry.id in allowed]
    return list(dict.fromkeys([DEFAULT_MODEL, *known, *sorted(allowed or ())]))


def chosen_name() -> str:
    """The name of the model that the visitor chose in the sidebar or the URL."""
    return str(st.session_state.get("model") or DEFAULT_MODEL)


def chosen_model() -> HookedModel:
    """The chosen model, with this visit's edits in it where the visitor asked for them.

    Loaded if need be; raises what ``from_pretrained`` raises.
    """
    name = chosen_name()
    error = _why_not(name)
    if error is not None:
        raise error
    return everywhere(load_model(name))


def needs(name: str) -> str:
    """What the model needs, in words: parameters, memory, and the hub where it is not shipped."""
    from lens_core.model.catalogue import find
    from lens_core.model.errors import UnknownModelError

    try:
        entry = find(name)
    except UnknownModelError:
        return "Offered by this host; its size shows once it is loaded."
    millions, megabytes = entry.n_params / 1e6, entry.gb_float32 * 1000
    size = (
        f"{millions:,.1f} M parameters, " if millions < 100 else f"{millions:,.0f} M parameters, "
    )
    memory = (
        f"{megabytes:.0f} MB of memory"
        if megabytes < 1000
        else f"{megabytes / 1000:.1f} GB of memory"
    )
    return size + memory + ("; from the hub" if entry.needs_hub else "; ships with the lab")
