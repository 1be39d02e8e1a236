"""The lenses that a visitor may choose: made on the spot, shipped beside the model, trained here.

A shipped lens is ``content/lenses/<model>/<lens>/lens.safetensors``, made by
``scripts/train_lenses.py``.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.lens_cache import fingerprint
from lens_core.lens import LastBlocksLens, LogitLens, Transport, TunedLens
from lens_core.lens.formats import load_lens, shipped_lenses

if TYPE_CHECKING:
    from lens_core import HookedModel

SHIPPED = ("tuned", "bias-only", "jacobian")
TRAINED_HERE = "trained here"
_TRAINED = "lenses_trained_here"
_DIGITS = 12


def shipped_name(model_name: str, kind: str) -> str:
    """As `load_lens` knows it. A hub name has a slash; as a folder's name it has none."""
    return f"{model_name.replace('/', '--')}/{kind}"


def lens_key(model: HookedModel, kind: str, blocks: int) -> str | None:
    """A name for the very lens, under which results are cached; None if there is none here."""
    if kind == "logit":
        return kind
    if kind == "last blocks":
        return f"{kind} {min(max(blocks, 1), model.cfg.n_layers)}"
    if kind == TRAINED_HERE:
        trained = _trained().get(fingerprint(model))
        return None if trained is None else f"{TRAINED_HERE} {trained[0]}"
    file = shipped_lenses().get(shipped_name(model.base.cfg.name, kind))
    if kind not in SHIPPED or file is None:
        return None
    return f"{kind} {_sha256(file, file.stat().st_mtime_ns)}"


def find_lens(model: HookedModel, key: str) -> Transport:
    """The lens of a key of `lens_key`; raises as `load_lens` does where the file is not one."""
    kind, _, rest = key.rpartition(" ")
    if key == "logit":
        return LogitLens()
    if kind == "last blocks":
        return LastBlocksLens(int(rest))
    if kind == TRAINED_HERE:
        return _trained()[fingerprint(model)][1]
    return _load(shipped_name(model.base.cfg.name, kind), rest)


def keep_trained(model: HookedModel, lens: TunedLens) -> None:
    """Offer this lens under *trained here* for the rest of the visit."""
    name = hashlib.sha256(lens.bias.cpu().numpy().tobytes()).hexdigest()[:_DIGITS]
    _trained()[fingerprint(model)] = (name, lens)


def trained_lens(model: HookedModel) -> TunedLens | None:
    """The lens that this visitor trained for the model, if there is one."""
    kept = _trained().get(fingerprint(model))
    return None if kept is None else kept[1]


def _trained() -> dict[str, tuple[str, TunedLens]]:
    kept: dict[str, tuple[str, TunedLens]] = st.session_state.setdefault(_TRAINED, {})
    return kept


@lru_cache(maxsize=32)
def _sha256(file: Path, changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGITS]


@st.cache_resource(max_entries=8, show_spinner=False)
def _load(name: str, sha256: str) -> Transport:
    """Read anew when the file holds another lens."""
    return load_lens(name)
