"""The lenses that a visitor may choose: made on the spot, shipped beside the model, trained here.

A shipped lens is ``content/lenses/<model>/<lens>/lens.safetensors``, made by
``scripts/train_lenses.py``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from lens_core.lens import LastBlocksLens, LogitLens, Transport

if TYPE_CHECKING:
    from lens_core import HookedModel

FOLDER = Path(__file__).resolve().parents[2] / "content" / "lenses"
SHIPPED = ("tuned", "bias-only", "jacobian")
TRAINED_HERE = "trained here"
_TRAINED = "lenses_trained_here"


def lens_file(model_name: str, kind: str) -> Path:
    """Where the lens of that kind for that model is, if there is one."""
    # A hub name has a slash; as a folder's name it has none, and so never leaves this folder.
    return FOLDER / model_name.replace("/", "--") / kind / "lens.safetensors"


def lens_key(model: HookedModel, kind: str, blocks: int) -> str | None:
    """A name for the very lens, under which results are cached; None if there is none here."""
    if kind == "logit":
        return kind
    if kind == "last blocks":
        return f"{kind} {min(max(blocks, 1), model.cfg.n_layers)}"
    if kind == TRAINED_HERE:
        trained = _trained().get(model.cfg.name)
        return None if trained is None else f"{TRAINED_HERE} {trained[0]}"
    file = lens_file(model.cfg.name, kind)
    if kind not in SHIPPED or not file.is_file():
        return None
    return f"{kind} {file.stat().st_mtime_ns}"


def find_lens(model: HookedModel, key: str) -> Transport:
    """The lens of a key of `lens_key`; raises as `load_lens` does where the file is not one."""
    kind, _, rest = key.rpartition(" ")
    if key == "logit":
        return LogitLens()
    if kind == "last blocks":
        return LastBlocksLens(int(rest))
    if kind == TRAINED_HERE:
        return _trained()[model.cfg.name][1]
    return _load(str(lens_file(model.cfg.name, kind)), rest)


def keep_trained(model: HookedModel, lens: Transport) -> None:
    """Offer this lens under *trained here* for the rest of the visit."""
    name = hashlib.sha256(lens.bias.numpy().tobytes()).hexdigest()[:12]  # type: ignore[attr-defined]
    _trained()[model.cfg.name] = (name, lens)


def _trained() -> dict[str, tuple[str, Transport]]:
    kept: dict[str, tuple[str, Transport]] = st.session_state.setdefault(_TRAINED, {})
    return kept


@st.cache_resource(max_entries=8, show_spinner=False)
def _load(path: str, version: str) -> Transport:
    """``version`` is the file's time: a lens that was trained anew is read anew."""
    from lens_core.lens import load_lens

    return load_lens(path)
