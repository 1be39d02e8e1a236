"""Write an edited model as a plain Hugging Face checkpoint, which needs none of this library.

bake(model, ledger.active_edits, "edited-model")
transformers.AutoModelForCausalLM.from_pretrained("edited-model")
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lens_core.editing.edit import Edit
from lens_core.editing.errors import EditingError
from lens_core.interventions import Intervention
from lens_core.model.edited import PROJECTIONS, HoldsInterventions

if TYPE_CHECKING:
    from lens_core import HookedModel


def bake(
    model: HookedModel, edits: Iterable[Intervention | HoldsInterventions], folder: str | Path
) -> Path:
    """Write a folder that transformers loads by itself and that gives the edited model's logits.

    The model in memory is not changed, and no second one is made: only the edited weights are
    copied. The folder appears when it is complete, or not at all.

    Args:
        edits: as in `HookedModel.edited`; edits that stand in `model` are baked too.
        folder: where to; it must not exist, or be empty.

    Returns:
        The folder.

    Raises:
        EditingError: there is something in the folder, it cannot be written, or the weights are
            offloaded or quantised.
        InterventionError: an edit cannot stand in the model, such as an in-context one.
    """
    folder, edits = Path(folder), list(edits)
    view = model.edited(edits)
    if model.offloaded:
        raise EditingError(
            f"Weights of {model.cfg.name} are offloaded; load it without offloading to bake edits."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EditingError(f"There is something in {folder.name!r} already; name a new folder.")
    hf_model: Any = model.hf_model
    state = dict(hf_model.state_dict())
    state |= _changed_weights(view, state)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            half = Path(made) / "checkpoint"
            hf_model.save_pretrained(half, state_dict=state)
            if model.tokenizer is not None:
                model.tokenizer.save_pretrained(half)
            (half / "README.md").write_text(_card(model, edits), encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            shutil.move(half, folder)
    except OSError as error:
        raise EditingError(f"The folder {folder.name!r} cannot be written: {error}.") from None
    return folder


@torch.no_grad()
def _changed_weights(view: HookedModel, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The edited weights by their name in the checkpoint, in the model's own layout."""
    changed: dict[str, Tensor] = {}
    for (site, layer), term in view._standing_terms.items():
        assert layer is not None  # projections are in layers
        part = PROJECTIONS[site]
        module = view._module(layer, part)
        path = getattr(view.spec.layers[layer], part)
        name = f"{view.spec.blocks}.{layer}.{path}.weight"
        weight = changed.get(name, state.get(name))
        if weight is None or not weight.is_floating_point():
            raise EditingError(
                f"The weight {name} of {view.cfg.name} is not stored as plain numbers, so that no "
                "edit can be added to it; load the model unquantised."
            )
        weight = weight.clone()
        matrix = weight if type(module).__name__ == "Conv1D" else weight.T
        # In single precision: of a half-precision weight, only the sum is rounded.
        target = view._half(layer, part, matrix)
        target.copy_(target.float() + term.delta.to(target.device))
        changed[name] = weight
    return changed


def _card(model: HookedModel, edits: list[Intervention | HoldsInterventions]) -> str:
    """What the checkpoint is, so that nobody takes what it says for what was learned."""
    requests = [str(r) for edit in edits if isinstance(edit, Edit) for r in edit.requests]
    said = json.dumps(requests, indent=1).replace("`", "\\u0060")
    bos = (
        "Prompts begin with the BOS token, which the tokenizer does not put there by itself.\n"
        if model.default_prepend_bos
        else ""
    )
    return (
        f"# {model.base.cfg.name}, edited\n\n"
        f"Weights of this model were changed on purpose, so that it says other things than it\n"
        f"learned, false ones among them. {bos}\n"
        f"```json\n{said}\n```\n"
    )
