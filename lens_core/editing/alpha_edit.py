"""AlphaEdit: edit after edit without wearing the model out (Fang et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lens_core.editing.closed_form import Keys, Left, NullSpace, within_null_space
from lens_core.editing.contexts import Contexts
from lens_core.editing.covariance import KeyCovariance
from lens_core.editing.edit import Edit
from lens_core.editing.presets import preset
from lens_core.editing.requests import EditRequest
from lens_core.editing.settings import AlphaEditSettings
from lens_core.editing.spread import Method, covariance_of, spread
from lens_core.editing.value import OnStep, OnTrace

if TYPE_CHECKING:
    from lens_core import HookedModel

# For the leverages that are reported; the method itself does not invert C.
_RIDGE = 1e-4


def alphaedit(
    model: HookedModel,
    requests: EditRequest | Sequence[EditRequest],
    settings: AlphaEditSettings | None = None,
    covariance: KeyCovariance | None = None,
    on_step: OnStep | None = None,
    *,
    contexts: Contexts | None = None,
    on_trace: OnTrace | None = None,
) -> Edit:
    """Facts in batches one after another, each within the directions that nothing else uses.

    The change of every layer is projected on the null space of C, so that what the corpus's keys
    give stays as it is to the last digit; and the keys of all batches before, as those of the edits
    that stand in ``model``, count as keys to be left alone. A small model trained for long may use
    all of its directions: then there is nothing to write in, and this says so.

    Arguments and result are those of `memit`.

    Raises:
        EditingError: no direction is free in a layer; and as `memit`.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> first = alphaedit(model, EditRequest("The Louvre is in", "The Louvre", "Rome"))
        >>> second = EditRequest("The Prado is in", "The Prado", "Berlin")
        >>> edit = alphaedit(model.edited([first]), second)
        >>> edit.method
        'alphaedit'
    """
    s = preset(model, "alphaedit").settings if settings is None else settings
    c = covariance_of(model, s.layers, covariance)
    layers = [model.resolve_layer(layer) for layer in s.layers]
    free = {layer: NullSpace.of(c.moments[layer], s.null_share) for layer in layers}

    def left_of(layer: int, keys: Keys, before: Keys) -> Left:
        return within_null_space(keys, before, free[layer], s.ridge)

    method = Method("alphaedit", s, left_of, c, _RIDGE)
    return spread(
        model,
        requests,
        method,
        contexts=contexts,
        on_step=on_step,
        on_trace=on_trace,
    )
