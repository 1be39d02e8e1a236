"""Parts of a model by short names: ``L4H7`` a head, ``mlp3`` an MLP, ``attn2`` an attention."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lens_core.attribution import AblationError, PartName

if TYPE_CHECKING:
    from lens_core import HookedModel

PartNames = tuple[PartName, ...]
_HEAD = re.compile(r"L?(\d{1,3})[.H](\d{1,3})", re.IGNORECASE)
_WHOLE = re.compile(r"(mlp|attn)(\d{1,3})", re.IGNORECASE)


def listed_parts(model: HookedModel, text: str) -> PartNames:
    """The parts that a text names, each once.

    Raises AblationError for a word that names none, or none of this model.
    """
    words = re.split(r"[\s,;]+", text.strip())
    return tuple(dict.fromkeys(_part(model, word) for word in words if word))


def _part(model: HookedModel, word: str) -> PartName:
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    head, whole = _HEAD.fullmatch(word), _WHOLE.fullmatch(word)
    if head is not None and int(head[1]) < n_layers and int(head[2]) < n_heads:
        return int(head[1]), int(head[2])
    if whole is not None and int(whole[2]) < n_layers:
        return int(whole[2]), "mlp" if whole[1].lower() == "mlp" else "attn"
    raise AblationError(
        f"{word[:20]!r} is no part of {model.cfg.name}: name heads as L0H0 to "
        f"{head_label(n_layers - 1, n_heads - 1)}, MLPs as mlp0, attentions as attn0."
    )


def head_label(layer: int, head: int) -> str:
    """``L4H7``: head 7 of layer 4."""
    return f"L{layer}H{head}"


def part_label(part: PartName) -> str:
    """``L4H7``, ``MLP 3``, ``attention 2``."""
    layer, which = part
    if isinstance(which, str):
        return f"{'MLP' if which == 'mlp' else 'attention'} {layer}"
    return head_label(layer, which)
