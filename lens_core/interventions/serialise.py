"""Interventions to JSON and back, with tensors by reference.

A tensor's reference is a hash of its contents, so a JSON text names exactly the numbers it needs,
the same tensor is stored once, and a changed one is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lens_core.interventions import ops
from lens_core.interventions.edit import SELECTOR_AXES, Intervention, make
from lens_core.model.errors import InterventionError


def to_json(interventions: Iterable[Intervention]) -> tuple[str, dict[str, Tensor]]:
    """Write interventions as JSON.

    Returns:
        The JSON text, and the tensors it refers to by reference (a dict that safetensors can save).

    Raises:
        InterventionError: one of them is a custom function.

    Example:
        >>> from lens_core.interventions import from_json, zero
        >>> from_json(*to_json([zero("z", 3, heads=[1])]))[0].heads
        (1,)
    """
    tensors: dict[str, Tensor] = {}
    items = []
    for edit in interventions:
        if edit.function is not None:
            raise InterventionError(
                f"{edit} is a function, which JSON cannot hold; build it from the other operations."
            )
        item: dict[str, Any] = {"op": edit.op, "site": edit.site, "layer": edit.layer}
        item |= {selector: list(chosen) for selector, chosen in edit.selectors.items()}
        if edit.paired:
            item["paired"] = True
        if edit.name:
            item["name"] = edit.name
        if edit.settings:
            item["settings"] = {key: _plain(value) for key, value in edit.settings.items()}
        if edit.tensors:
            item["tensors"] = {}
            for label, tensor in edit.tensors.items():
                reference = tensor_reference(tensor)
                tensors[reference] = tensor.detach().cpu().contiguous()
                item["tensors"][label] = reference
        items.append(item)
    return json.dumps(items), tensors


def from_json(text: str, tensors: Mapping[str, Tensor] | None = None) -> list[Intervention]:
    """Read interventions back.

    Args:
        text: what `to_json` wrote.
        tensors: the tensors it refers to, by reference.

    Raises:
        InterventionError: the text is no such JSON, a tensor is missing or not the one referred to.
    """
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise InterventionError(f"This is no JSON of interventions: {error}.") from None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InterventionError("A JSON of interventions is a list of objects.")
    return [_read(item, tensors or {}) for item in items]


def tensor_reference(tensor: Tensor) -> str:
    """A name for a tensor by its contents, dtype and shape."""
    data = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{data.dtype} {tuple(data.shape)} ".encode())
    digest.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:32]}"


def _read(item: dict[str, Any], tensors: Mapping[str, Tensor]) -> Intervention:
    fields = dict(item)
    op, site, layer = fields.pop("op", None), fields.pop("site", None), fields.pop("layer", None)
    if op not in ops.ARGUMENTS or not isinstance(site, str):
        raise InterventionError(f"There is no operation {op!r} at {site!r}.")
    if layer is not None and not isinstance(layer, int):
        raise InterventionError(f"A layer is a whole number, not {layer!r}.")
    found = {}
    for label, reference in _mapping(fields.pop("tensors", {})).items():
        if reference not in tensors:
            raise InterventionError(f"The tensor {reference!r} of {op} {site} is not at hand.")
        if tensor_reference(tensors[reference]) != reference:
            raise InterventionError(f"The tensor given as {reference!r} is another one.")
        found[label] = tensors[reference]
    settings = {key: _frozen(value) for key, value in _mapping(fields.pop("settings", {})).items()}
    unknown = set(fields) - set(SELECTOR_AXES) - {"paired", "name"}
    if unknown:
        raise InterventionError(f"Interventions have no field {sorted(unknown)[0]!r}.")
    _check_arguments(op, settings, found)
    return make(op, site, layer, settings=settings, tensors=found, **fields)


def _check_arguments(op: str, settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse an operation whose arguments are not the ones its constructor writes."""
    wanted_settings, wanted_tensors = ops.ARGUMENTS[op]
    if set(settings) != set(wanted_settings) or set(tensors) != set(wanted_tensors):
        raise InterventionError(
            f"{op} has the settings {list(wanted_settings)} and the tensors {list(wanted_tensors)}."
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InterventionError("Settings and tensors of an intervention are objects.")
    return value
