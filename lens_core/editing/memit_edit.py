"""MEMIT: hundreds of facts in one edit (Meng et al. 2023, "Mass-Editing Memory in a Transformer").

edit = memit(model, requests)
model.run(prompt, interventions=edit.interventions)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lens_core.editing.closed_form import Keys, Left, least_disturbing
from lens_core.editing.contexts import Contexts
from lens_core.editing.covariance import KeyCovariance
from lens_core.editing.edit import Edit
from lens_core.editing.presets import preset
from lens_core.editing.requests import EditRequest
from lens_core.editing.settings import MemitSettings
from lens_core.editing.spread import Method, covariance_of, spread
from lens_core.editing.value import OnStep, OnTrace

if TYPE_CHECKING:
    from lens_core import HookedModel


def memit(
    model: HookedModel,
    requests: EditRequest | Sequence[EditRequest],
    settings: MemitSettings | None = None,
    covariance: KeyCovariance | None = None,
    on_step: OnStep | None = None,
    *,
    contexts: Contexts | None = None,
    on_trace: OnTrace | None = None,
) -> Edit:
    """Write many facts at once, spread over several layers.

    In each layer W_out changes by Delta = (lambda C + K K^T)^-1 K R: K the facts' keys there, R
    what is still missing from z, shared out over the layers still to do, C = E[k k^T].

    What lambda means. Of one key alone the fraction of R that is written is rho / (1 + rho) with
    rho = k^T C^-1 k / lambda. The mean of k^T C^-1 k over the tokens that C was made from is
    tr(C^-1 C) = d_mlp, the width of a key, whatever the model; and a key that makes up a share f of
    all tokens has at most 1 / f. So the same lambda is another method in another width: GPT-J's
    15,000 over its 16,384 writes 52% of a mean token's residual in each layer, and would write 6%
    at a width of 1,024. Settings therefore hold lambda / d_mlp (``covariance_weight``), and each
    layer's write fraction and what is left of the way to z are in ``trace.diagnostics``.

    Facts of one subject share its key, and are written one after another; of two that contradict
    each other the later one wins.

    Args:
        requests: any number; past about 0.3 facts for each entry of a key the edits crowd.
        settings: None: the preset of the model.
        covariance: of every edited layer; None: `default_covariance`.
        on_step: called with how much is done and of how much; what it raises ends the edit and
            leaves nothing behind.
        contexts: texts before the prompts; None: `default_contexts`.
        on_trace: called with the trace so far, after each step of the optimiser.

    Raises:
        EditingError: a request or the covariance does not fit the model, or a layer cannot be
            edited.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> towers = ["The Eiffel Tower", "The Colosseum"]
        >>> edit = memit(model, [EditRequest(f"{t} is in", t, "Berlin") for t in towers])
        >>> view = model.edited([edit])
        >>> [view.to_string(view.run(f"{t} is in")[0, -1].argmax()[None]) for t in towers]
        [' Berlin', ' Berlin']
    """
    s = preset(model, "memit").settings if settings is None else settings
    c = covariance_of(model, s.layers, covariance, s.names_weight)

    def left_of(layer: int, keys: Keys, earlier: Keys) -> Left:
        softness = s.covariance_weight * keys.shape[1]
        return least_disturbing(keys, c.solve(layer, keys, ridge=s.ridge), softness)

    method = Method("memit", s, left_of, c, s.ridge)
    return spread(model, requests, method, contexts=contexts, on_step=on_step, on_trace=on_trace)
