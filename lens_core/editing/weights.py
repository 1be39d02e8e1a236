"""Which weights an edit was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from lens_core.lens.identity import weights_sha256

if TYPE_CHECKING:
    from lens_core import HookedModel

_HASHES: WeakKeyDictionary[HookedModel, str] = WeakKeyDictionary()


def fingerprint(model: HookedModel) -> str:
    """SHA-256 of the model's weights, made once a model."""
    if model not in _HASHES:
        _HASHES[model] = weights_sha256(model)
    return _HASHES[model]
