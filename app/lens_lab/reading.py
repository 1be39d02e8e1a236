"""What was read: one result, or two laid beside each other row by row."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from app.lens_cache import Answer, ask, compared
from app.lens_lab.request import Request
from lens_core.lens import CompareError, LensResult
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.compare import Comparison

_NOT_PER_ROW = {"token_ids", "final_ids", "tracked_ids"}


@dataclass(frozen=True)
class Reading:
    """The first result; the second and their comparison, where one was asked for and possible."""

    first: Answer
    second: Answer | None = None
    comparison: Comparison | None = None
    refused: str | None = None

    @property
    def lens(self) -> LensResult:
        """The first result, of which the chosen cell is one."""
        return self.first.lens


def read(model: HookedModel, wanted: Request) -> Reading:
    """Answer a request. A second reading that cannot be had is refused with its reason."""
    first = ask(model, wanted.first)
    if wanted.second is None:
        return Reading(first)
    try:
        comparison = compared(model, wanted.first, wanted.second)
        second = ask(model, wanted.second)
    except LensError as error:
        return Reading(first, refused=str(error))
    rows = [layer for layer in first.lens.row_layers if layer in second.lens.row_layers]
    if not rows:
        return Reading(first, refused=str(CompareError("The two lenses have no row in common.")))
    return Reading(
        replace(first, lens=only_rows(first.lens, rows)),
        replace(second, lens=only_rows(second.lens, rows)),
        comparison,
    )


def only_rows(lens: LensResult, layers: list[int]) -> LensResult:
    """The result with the rows of these layers alone."""
    if list(lens.row_layers) == layers:
        return lens
    places = [lens.row_layers.index(layer) for layer in layers]
    cut = {
        field.name: getattr(lens, field.name)[places]
        for field in fields(lens)
        if isinstance(getattr(lens, field.name), np.ndarray) and field.name not in _NOT_PER_ROW
    }
    return replace(lens, row_layers=tuple(layers), **cut)


def shown_rows(lens: LensResult, stride: int) -> tuple[int, ...]:
    """Every ``stride``-th row counted from the last, in order."""
    last = len(lens.row_layers) - 1
    return tuple(range(last, -1, -stride))[::-1]
