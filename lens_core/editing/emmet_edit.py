"""EMMET: many facts, each written exactly (Gupta et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lens_core.editing.closed_form import Keys, Left, least_disturbing
from lens_core.editing.contexts import Contexts
from lens_core.editing.covariance import KeyCovariance
from lens_core.editing.edit import Edit
from lens_core.editing.presets import preset
from lens_core.editing.requests import EditRequest
from lens_core.editing.settings import EmmetSettings
from lens_core.editing.spread import Method, covariance_of, spread
from lens_core.editing.value import OnStep, OnTrace

if TYPE_CHECKING:
    from lens_core import HookedModel


def emmet(
    model: HookedModel,
    requests: EditRequest | Sequence[EditRequest],
    settings: EmmetSettings | None = None,
    covariance: KeyCovariance | None = None,
    on_step: OnStep | None = None,
    *,
    contexts: Contexts | None = None,
    on_trace: OnTrace | None = None,
) -> Edit:
    """ROME's equality constraint for many facts at once, in one layer.

    Delta = C^-1 K (K^T C^-1 K + r I)^-1 R: of the changes that give every key its value exactly,
    the one that disturbs C's keys least. It is MEMIT's with lambda -> 0, and r-ROME's for one fact.
    A ridge (``batch_ridge``) softens it where facts crowd.

    Arguments, result and errors are those of `memit`.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> request = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome")
        >>> edit = emmet(model, request)
        >>> edit.trace.diagnostics[0].write_fraction > 0.9
        True
    """
    s = preset(model, "emmet").settings if settings is None else settings
    c = covariance_of(model, s.layers, covariance, s.names_weight)

    def left_of(layer: int, keys: Keys, earlier: Keys) -> Left:
        towards = c.solve(layer, keys, ridge=s.ridge)
        softness = s.batch_ridge * float((keys.double() * towards).sum(-1).mean())
        return least_disturbing(keys, towards, softness)

    method = Method("emmet", s, left_of, c, s.ridge)
    return spread(model, requests, method, contexts=contexts, on_step=on_step, on_trace=on_trace)
