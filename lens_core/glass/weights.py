"""One weight changed, in a copy: the model that others share stays as it is.

edited = with_weight(model, "W_K", (1, 0, 15, 4), 30)
edited = with_edits(model, parse_edits("W_K[1,0,15,4]=30; b_Q[1,0,4]=4"))
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lens_core.model.errors import InterventionError
from lens_core.model.hooked_model import HookedModel

GLOBAL_WEIGHTS = ("W_E", "W_pos", "W_U")
HEAD_WEIGHTS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
LAYER_WEIGHTS = ("W_in", "b_in", "W_out", "b_out", "b_O")
WEIGHTS = (*GLOBAL_WEIGHTS, *HEAD_WEIGHTS, *LAYER_WEIGHTS)
MOST_EDITS = 16
LARGEST = 1000.0
_EDIT = re.compile(r"([Wb]_\w{1,4})\[(\d{1,4}(?:,\d{1,4}){1,3})\]=(-?\d{1,4}(?:\.\d{1,6})?)")


@dataclass(frozen=True)
class WeightEdit:
    """One weight and its new value.

    `index` is that of the accessor of the same name: (layer, head, row, column) for W_Q, W_K, W_V
    and W_O, (layer, head, column) for their biases, (layer, row, column) for W_in and W_out,
    (layer, column) for the other biases, (row, column) for W_E, W_pos and W_U.
    """

    name: str
    index: tuple[int, ...]
    value: float

    def __str__(self) -> str:
        return f"{self.name}[{','.join(map(str, self.index))}]={self.value:g}"


def with_weight(model: HookedModel, name: str, index: tuple[int, ...], value: float) -> HookedModel:
    """A copy of the model in which one weight has another value.

    Raises:
        InterventionError: there is no such weight, or the value is not finite.
    """
    return with_edits(model, [WeightEdit(name, index, value)])


@torch.no_grad()
def with_edits(model: HookedModel, edits: Iterable[WeightEdit]) -> HookedModel:
    """A copy of the model with these weights changed, the later edit winning.

    Meant for small models: the copy holds every weight once more.

    Raises:
        InterventionError: as `with_weight`.
    """
    edited = HookedModel.from_hf(
        copy.deepcopy(model.hf_model),
        model.tokenizer,
        name=model.cfg.name,
        prepend_bos=model.default_prepend_bos,
        check=False,
    )
    edited.disabled_sites = dict(model.disabled_sites)
    for edit in edits:
        if not math.isfinite(edit.value):
            raise InterventionError(f"A weight must be a finite number, not {edit.value}.")
        table, place = _find(edited, edit)
        table[place] = edit.value
        if not math.isclose(weight_of(edited, edit.name, edit.index), edit.value, rel_tol=1e-2):
            raise InterventionError(f"{edit.name} of {model.cfg.name} cannot be set one by one.")
    return edited.edited(model.standing, name=model.cfg.name)


@torch.no_grad()
def weight_of(model: HookedModel, name: str, index: tuple[int, ...]) -> float:
    """The value of one weight. Raises InterventionError where there is none."""
    table, place = _find(model, WeightEdit(name, index, 0.0))
    return float(table[place].item())


def parse_edits(text: str) -> tuple[WeightEdit, ...]:
    """Edits from text such as ``W_K[1,0,15,4]=30; b_Q[1,0,4]=4``; the empty text has none.

    Raises:
        InterventionError: the text is none, too long, or a value beyond ±1000.
    """
    parts = [part for part in text.replace(" ", "").split(";") if part]
    if len(parts) > MOST_EDITS:
        raise InterventionError(f"These are {len(parts)} edits; at most {MOST_EDITS} at a time.")
    edits = []
    for part in parts:
        match = _EDIT.fullmatch(part)
        if match is None or match[1] not in WEIGHTS or abs(float(match[3])) > LARGEST:
            raise InterventionError(
                f"{part!r:.60} is no edit; write for example W_K[1,0,15,4]=30, values up to 1000."
            )
        index = tuple(int(i) for i in match[2].split(","))
        edits.append(WeightEdit(match[1], index, float(match[3])))
    return tuple(edits)


def format_edits(edits: Iterable[WeightEdit]) -> str:
    """The text that `parse_edits` reads."""
    return "; ".join(str(edit) for edit in edits)


def _find(model: HookedModel, edit: WeightEdit) -> tuple[Tensor, tuple[int, ...]]:
    """The matrix or vector that holds a weight, as a view, and the place in it."""
    if edit.name not in WEIGHTS:
        raise InterventionError(
            f"There is no weight {edit.name!r:.20}; the weights are {', '.join(WEIGHTS)}."
        )
    table, place = getattr(model, edit.name), edit.index
    if edit.name not in GLOBAL_WEIGHTS:
        layer, *rest = place
        if not 0 <= layer < model.cfg.n_layers:
            raise InterventionError(f"{edit.name} has no layer {layer}.")
        table, place = table[layer], tuple(rest)
    inside = len(place) == table.ndim and all(
        0 <= i < size for i, size in zip(place, table.shape, strict=True)
    )
    if not inside:
        raise InterventionError(
            f"{edit.name} has the shape {list(table.shape)}; there is no {list(place)} in it."
        )
    return table, place
