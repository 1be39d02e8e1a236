"""Which weights a lens was trained on, so that it is not read through others of the same shape."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lens_core.interventions import to_json
from lens_core.lens.errors import LensMismatchError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.transports import Transport

_HASHES: WeakKeyDictionary[HookedModel, str] = WeakKeyDictionary()


def weights_sha256(model: HookedModel) -> str:
    """SHA-256 of every parameter's name, dtype, shape and bytes; offloaded ones by name alone.

    Edits that stand in the model (`HookedModel.edited`) count as other weights.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.hf_model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)} ".encode())
        if not parameter.is_meta:
            raw = _whole(parameter.detach()).cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().data)
    if model.standing:
        digest.update(to_json(replace(edit, name="") for edit in model.standing)[0].encode())
    return digest.hexdigest()


def _whole(parameter: Tensor) -> Tensor:
    """A parameter that is sharded over processes, gathered; every process must ask for it."""
    gather: Callable[[], Tensor] | None = getattr(parameter, "full_tensor", None)
    return parameter if gather is None else gather()


def weights_dtype(model: HookedModel) -> str:
    """The dtypes of the parameters, ``"float32"`` or ``"float16, float32"`` for example."""
    dtypes = {str(p.dtype).removeprefix("torch.") for p in model.hf_model.parameters()}
    return ", ".join(sorted(dtypes))


def check_weights(lens: Transport, model: HookedModel) -> None:
    """Refuse a lens that names other weights than the model's, though the shapes are the same.

    A hash can only be compared with one of the same precision. Where the lens names no weights, as
    published ones do not, or the model has another dtype or is offloaded, the shapes decide alone.
    The model's hash is made once; a model that is edited in place keeps its lens, and so does a
    view with standing edits keep those of the model that it is a view of. For a lens that
    is moved to another model on purpose, take the hash out:
    ``dataclasses.replace(lens, provenance={})``.

    Raises:
        LensMismatchError: other weights.
    """
    theirs = lens.provenance.get("weights_sha256")
    if not isinstance(theirs, str) or model.offloaded:
        return
    if lens.provenance.get("weights_dtype", weights_dtype(model)) != weights_dtype(model):
        return
    ours = _cached_sha256(model)
    if theirs not in (ours, _cached_sha256(model.base)):
        trained_on = lens.provenance.get("model") or "another model"
        raise LensMismatchError(
            f"This {lens.name} lens was trained on {trained_on} with the weights {theirs[:12]}, "
            f"and {model.cfg.name} has the same shape but the weights {ours[:12]}. Train a lens of "
            "this model, or choose the logit lens, which needs none."
        )


def _cached_sha256(model: HookedModel) -> str:
    if model not in _HASHES:
        _HASHES[model] = weights_sha256(model)
    return _HASHES[model]
