"""ROME: one fact, one layer, one rank-one change of W_out.

Of all weights that give v* for the key k*, W + (v* - W k*) (C^-1 k*)^T / (k*^T C^-1 k*) is the one
that changes what other text gets the least (Meng et al. 2022, "Locating and Editing Factual
Associations in GPT"). The published code mixes two keys, which at times makes the denominator tiny
and the edit ruinous; r-ROME (Gupta et al. 2024, "Rebuilding ROME") takes one key everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.editing.contexts import Contexts, default_contexts
from lens_core.editing.covariance import KeyCovariance, default_covariance
from lens_core.editing.edit import Edit, EditTrace, LayerDiagnostic, OptimisationStep
from lens_core.editing.errors import EditingError
from lens_core.editing.keys import keys_by_spelling, project
from lens_core.editing.names import with_names
from lens_core.editing.presets import preset
from lens_core.editing.requests import EditRequest, as_requests
from lens_core.editing.settings import RomeSettings
from lens_core.editing.value import OnStep, OnTrace, Values, optimise_values
from lens_core.editing.weights import fingerprint
from lens_core.interventions import Intervention, low_rank
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    from lens_core import HookedModel

# Of two spellings whose keys are almost one, as a share of their leverage: no weight gets huge.
_SOFTNESS = 1e-3


def rome(
    model: HookedModel,
    request: EditRequest | Sequence[EditRequest],
    settings: RomeSettings | None = None,
    covariance: KeyCovariance | None = None,
    *,
    contexts: Contexts | None = None,
    on_step: OnStep | None = None,
    on_trace: OnTrace | None = None,
) -> Edit:
    """Edit one fact, or several one after another, each seeing the earlier ones' edits.

    The model is not touched: give the edit's interventions to a run, or the edit to
    `model.edited`.

    Args:
        settings: None: `preset(model, "rome").settings`.
        covariance: the second moment of keys; None: `key_covariance(model)`, computed once.
        contexts: prefixes; None: `default_contexts`.
        on_step: called with the number of optimiser steps done and of all that there may be; what
            it raises ends the edit.
        on_trace: called as often with the trace so far.

    Returns:
        An edit with one rank-one term a request.

    Raises:
        EditingError: a request, a setting or the statistics do not fit the model.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> request = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome")
        >>> edit = rome(model, request)
        >>> edit.terms[0].tensors["left"].shape, edit.terms[0].tensors["right"].shape
        (torch.Size([1024, 1]), torch.Size([1, 256]))
    """
    requests = as_requests(request)
    settings = settings if settings is not None else _preset(model)
    layer, covariance = _checked(model, requests, settings, covariance)
    contexts = contexts or default_contexts(model, settings.n_contexts, settings.seed)
    progress = _Progress(len(requests), settings.steps, on_step, on_trace)
    terms: list[Intervention] = []
    seen = model
    for number, one in enumerate(requests):
        values = optimise_values(
            seen,
            [one.tokenize(seen)],
            settings,
            layer,
            contexts=contexts,
            on_step=progress.step,
            on_trace=progress.trace,
        )
        if settings.variant == "r-rome" and settings.every_spelling:
            values = _for_every_spelling(seen, one, values, settings, layer, covariance, contexts)
        term, diagnostic = _insert(seen, values, settings, layer, covariance, one, number)
        terms.append(term)
        progress.finish(diagnostic)
        if number + 1 < len(requests):
            seen = model.edited(terms)
    return _finished(model, requests, settings, layer, terms, progress)


def _checked(
    model: HookedModel,
    requests: Sequence[EditRequest],
    settings: RomeSettings,
    covariance: KeyCovariance | None,
) -> tuple[int, KeyCovariance | None]:
    """The layer and the statistics; everything that can be refused is, before any long step."""
    if model._ambient():
        raise EditingError(
            "An edit is computed outside of `with model.interventions(...)`; to build on earlier "
            "edits, give it the view model.edited(edits)."
        )
    layer = _layer(model, settings)
    for one in requests:
        one.tokenize(model)
    if settings.use_covariance:
        covariance = covariance or default_covariance(model, [layer])
        covariance.check(model, layer)
        covariance = with_names(covariance, model, [layer], settings.names_weight)
    return layer, covariance


def _finished(
    model: HookedModel,
    requests: tuple[EditRequest, ...],
    settings: RomeSettings,
    layer: int,
    terms: Sequence[Intervention],
    progress: _Progress,
) -> Edit:
    return Edit(
        method="rome",
        requests=requests,
        layers=(layer,),
        terms=tuple(terms),
        trace=progress.so_far,
        settings=settings,
        model_name=model.base.cfg.name,
        fingerprint=fingerprint(model.base),
    )


def _preset(model: HookedModel) -> RomeSettings:
    settings = preset(model, "rome").settings
    assert isinstance(settings, RomeSettings)
    return settings


def _layer(model: HookedModel, settings: RomeSettings) -> int:
    try:
        return model.resolve_layer(settings.layer)
    except LensError as error:
        raise EditingError(str(error)) from None


def _insert(
    model: HookedModel,
    values: Values,
    settings: RomeSettings,
    layer: int,
    covariance: KeyCovariance | None,
    request: EditRequest,
    number: int,
) -> tuple[Intervention, LayerDiagnostic]:
    """The rank-one term that makes the layer give v* for k*."""
    mean, bare = values.mean_key[0], values.bare_key[0]
    along = bare if settings.variant == "p-rome" else mean
    sized_by = mean if settings.variant == "r-rome" else bare
    towards, leverage = _direction(along, settings, layer, covariance)
    before = project(model, layer, sized_by[None])[0].double().cpu()
    # One key everywhere: what the mean key gives is where the value starts, too.
    start = before if settings.variant == "r-rome" else values.start[0].double().cpu()
    wanted = start + values.delta[0].double().cpu()
    size = towards @ sized_by.double().cpu()
    left, right = (towards / size).float(), (wanted - before).float()
    if not bool(left.isfinite().all() and right.isfinite().all()):
        raise EditingError(
            f"The edit of {request.subject!r:.60} is not finite: its denominator is {size:.2g}. "
            'Choose the variant "r-rome".'
        )
    weight = model.W_out[layer].detach()
    written = before + (sized_by.double().cpu() @ left.double()) * right.double()
    gap = (wanted - before).norm()
    diagnostic = LayerDiagnostic(
        request=number,
        layer=layer,
        denominator=float(size / towards.norm()),
        delta_norm=float(left.double().norm() * right.double().norm()),
        weight_norm=float(weight.float().norm()),
        leverage=leverage,
        write_fraction=float((written - before) @ (wanted - before) / gap**2),
        key=sized_by.cpu(),
        value_before=before.float(),
        value_wanted=wanted.float(),
        value_written=written.float(),
    )
    name = f"{request.subject} -> {request.target_new.strip()}"
    device = weight.device
    term = low_rank("mlp_out", layer, left[:, None].to(device), right[None].to(device), name=name)
    return term, diagnostic


def _for_every_spelling(
    model: HookedModel,
    request: EditRequest,
    values: Values,
    settings: RomeSettings,
    layer: int,
    covariance: KeyCovariance | None,
    contexts: Contexts,
) -> Values:
    """The values with a mean key that gives each spelling of the subject the whole of the edit.

    With K the spellings' keys, C^-1 K (K^T C^-1 K)^-1 1 is the direction that has 1 with each of
    them and disturbs C's keys least; it is C^-1 of a weighted mean of the keys, up to its length.
    """
    located = request.tokenize(model)
    keys = keys_by_spelling(model, located, layer, settings.n_contexts, contexts).cpu()
    if len(keys) == 1:
        return values
    towards = torch.stack([_direction(key, settings, layer, covariance)[0] for key in keys])
    gram = keys @ towards.T
    soft = _SOFTNESS * gram.diagonal().diag()
    weights = torch.linalg.solve((gram + gram.T) / 2 + soft, torch.ones(len(keys)).double())
    return replace(values, mean_key=(weights / weights.sum() @ keys).float()[None])


def _direction(
    key: Float[Tensor, " d_mlp"],
    settings: RomeSettings,
    layer: int,
    covariance: KeyCovariance | None,
) -> tuple[Float[Tensor, " d_mlp"], float]:
    """C^-1 k in float64 and k^T C^-1 k; k itself and NaN without C."""
    if not settings.use_covariance or covariance is None:
        return key.double().cpu(), float("nan")
    towards = covariance.solve(layer, key[None], ridge=settings.ridge)[0]
    return towards, float(towards @ key.double().cpu())


class _Progress:
    """One count and one trace over all requests of a sequence."""

    def __init__(
        self, n_requests: int, n_steps: int, on_step: OnStep | None, on_trace: OnTrace | None
    ) -> None:
        self.n_all, self.n_steps = n_requests * n_steps, n_steps
        self.on_step, self.on_trace = on_step, on_trace
        self.steps: list[OptimisationStep] = []
        self.diagnostics: list[LayerDiagnostic] = []
        self._current: tuple[OptimisationStep, ...] = ()

    @property
    def so_far(self) -> EditTrace:
        """The trace of what is done."""
        return EditTrace((*self.steps, *self._current), tuple(self.diagnostics))

    def step(self, done: int, _: int) -> None:
        """A step of the current request."""
        if self.on_step is not None:
            self.on_step(len(self.diagnostics) * self.n_steps + done, self.n_all)

    def trace(self, trace: EditTrace) -> None:
        """The steps of the current request, which knows itself as number 0."""
        number = len(self.diagnostics)
        self._current = tuple(replace(step, request=number) for step in trace.steps)
        if self.on_trace is not None:
            self.on_trace(self.so_far)

    def finish(self, diagnostic: LayerDiagnostic) -> None:
        """The current request is written."""
        self.steps += self._current
        self._current = ()
        self.diagnostics.append(diagnostic)
