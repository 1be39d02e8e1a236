"""Many facts written at once and spread over layers: what MEMIT, EMMET and AlphaEdit share.

For each batch of facts: find z, what the residual stream after the last edited layer should be at
each subject's last token; then, layer by layer, read the keys as they are with the edits so far,
and let the layer write its share of what is still missing (Meng et al. 2023, Algorithm 1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.editing.closed_form import Keys, Left
from lens_core.editing.contexts import Contexts, default_contexts
from lens_core.editing.covariance import KeyCovariance, default_covariance
from lens_core.editing.edit import Edit, EditTrace, LayerDiagnostic, OptimisationStep
from lens_core.editing.errors import EditingError
from lens_core.editing.keys import added_per_output, project, subject_states
from lens_core.editing.names import with_names
from lens_core.editing.requests import EditRequest, LocatedRequest, as_requests
from lens_core.editing.settings import AlphaEditSettings, EmmetSettings, MemitSettings
from lens_core.editing.value import OnStep, OnTrace, optimise_values
from lens_core.editing.weights import fingerprint
from lens_core.interventions import Intervention, low_rank

if TYPE_CHECKING:
    from lens_core import HookedModel

Settings = MemitSettings | EmmetSettings | AlphaEditSettings
# From a layer, its keys and the keys that earlier edits have written there.
LeftOf = Callable[[int, Keys, Keys], Left]


@dataclass(frozen=True, eq=False)
class Method:
    """A way to write keys and residuals into a layer.

    Attributes:
        name: of the method; settings: its own.
        left_of: its closed form.
        covariance: for leverages; ridge: of its inverse.
    """

    name: str
    settings: Settings
    left_of: LeftOf
    covariance: KeyCovariance
    ridge: float


def spread(
    model: HookedModel,
    requests: EditRequest | Sequence[EditRequest],
    method: Method,
    *,
    contexts: Contexts | None = None,
    on_step: OnStep | None = None,
    on_trace: OnTrace | None = None,
) -> Edit:
    """Write facts by a method; arguments and errors as in `memit`."""
    many = as_requests(requests)
    refuse_ambient(model)
    located = [request.tokenize(model) for request in many]
    s = method.settings
    if contexts is None:
        contexts = default_contexts(model, s.n_contexts, s.seed)
    writer = _Writer(model, method, contexts, len(many), on_step, on_trace)
    for numbers in _batches(many, s.batch or len(many)):
        writer.write([located[i] for i in numbers], numbers)
    return Edit(
        method=method.name,
        requests=many,
        layers=writer.layers,
        terms=writer.terms(),
        trace=EditTrace(tuple(writer.steps), tuple(writer.diagnostics)),
        settings=s,
        model_name=model.base.cfg.name,
        fingerprint=fingerprint(model.base),
    )


def _batches(requests: Sequence[EditRequest], size: int) -> Iterator[list[int]]:
    """Which requests are written together, of one subject never more than one.

    Facts of one subject have one key, so that together each would get a part of the others' values.
    One after another, the later is found with the earlier in place; of two that contradict each
    other it wins.
    """
    rounds: dict[int, list[int]] = {}
    seen: Counter[str] = Counter()
    for number, request in enumerate(requests):
        rounds.setdefault(seen[request.subject], []).append(number)
        seen[request.subject] += 1
    for same in rounds.values():
        for start in range(0, len(same), size):
            yield same[start : start + size]


def covariance_of(
    model: HookedModel,
    layers: Sequence[int],
    covariance: KeyCovariance | None,
    names_weight: float = 0.0,
) -> KeyCovariance:
    """The key statistics to use, which know every one of some layers.

    Raises:
        EditingError: those that are given do not, or names are asked for and not known.
    """
    wanted = [model.resolve_layer(layer) for layer in layers]
    found = default_covariance(model, wanted) if covariance is None else covariance
    for layer in wanted:
        found.check(model, layer)
    return with_names(found, model, wanted, names_weight)


def refuse_ambient(model: HookedModel) -> None:
    """Raise EditingError inside ``with model.interventions(...)``, which no edit could include."""
    if model._ambient():
        raise EditingError(
            "An edit is computed outside of `with model.interventions(...)`; to build on earlier "
            "edits, give it the view model.edited(edits)."
        )


def term_of(
    layer: int, left: Float[Tensor, "d_mlp k"], right: Float[Tensor, "k d_model"], name: str
) -> Intervention:
    """A change of W_out as an intervention, as two factors or whole, whichever is smaller."""
    if left.shape[1] > right.shape[1]:
        left, right = left @ right, torch.eye(right.shape[1])
    return low_rank("mlp_out", layer, left.float(), right.float(), name=name)


class _Writer:
    """Writes batch after batch; holds what is written so far."""

    def __init__(
        self,
        model: HookedModel,
        method: Method,
        contexts: Contexts,
        n_facts: int,
        on_step: OnStep | None,
        on_trace: OnTrace | None,
    ) -> None:
        self.model, self.method, self.contexts = model, method, contexts
        self.layers = tuple(model.resolve_layer(layer) for layer in method.settings.layers)
        self.on_step, self.on_trace = on_step, on_trace
        self.per_fact = method.settings.steps + len(self.layers)
        self.n_facts, self.n_written = n_facts, 0
        self.numbers: list[int] = []
        self.steps: list[OptimisationStep] = []
        self.diagnostics: list[LayerDiagnostic] = []
        self._factors: dict[int, list[tuple[Tensor, Tensor]]] = {n: [] for n in self.layers}
        self._keys: dict[int, Keys] = {n: _keys_of(model, n) for n in self.layers}

    def terms(self) -> tuple[Intervention, ...]:
        """What is written so far, one term a layer."""
        return tuple(
            term_of(
                layer,
                torch.cat([left for left, _ in parts], dim=1),
                torch.cat([right for _, right in parts], dim=0),
                self.method.name,
            )
            for layer, parts in self._factors.items()
            if parts
        )

    def write(self, located: Sequence[LocatedRequest], numbers: list[int]) -> None:
        """One batch; the numbers are those of the requests among all of them."""
        last, self.numbers = self.layers[-1], numbers
        values = optimise_values(
            self.model.edited(self.terms()),
            located,
            self.method.settings,
            last,
            at="resid_post",
            contexts=self.contexts,
            on_step=lambda done, _: self._tell(done),
            on_trace=None if self.on_trace is None else self._show,
        )
        self.steps += self._numbered(values.steps)
        z, whole = values.wanted.cpu(), values.delta.norm(dim=-1).cpu()
        found: list[_Written] = []
        new_keys: dict[int, Keys] = {}
        for place, layer in enumerate(self.layers):
            found.append(self._write_layer(located, layer, z, len(self.layers) - place))
            new_keys[layer] = found[-1].keys
            self._tell(len(located) * (self.method.settings.steps + place + 1))
        for layer, keys in new_keys.items():
            self._keys[layer] = torch.cat([self._keys[layer], keys])
        # What is left after each layer is what the next one found, and what is there at the end.
        end = self._states(located, [("resid_post", last)], 1).bare("resid_post", last).cpu()
        left = [*(w.missing for w in found[1:]), z - end]
        for written, missing in zip(found, left, strict=True):
            errors = missing.norm(dim=-1) / whole
            self.diagnostics += written.diagnostics(numbers, errors)
        self.n_written += len(located)

    @torch.no_grad()
    def _write_layer(
        self, located: Sequence[LocatedRequest], layer: int, z: Tensor, n_left: int
    ) -> _Written:
        last = self.layers[-1]
        places = [("mlp_post", layer), ("mlp_out", layer), ("resid_post", last)]
        states = self._states(located, places, self.method.settings.n_contexts)
        view = self.model.edited(self.terms())
        factor = added_per_output(
            view, layer, states.bare("mlp_post", layer), states.bare("mlp_out", layer)
        )
        keys = states.mean("mlp_post", layer).cpu()
        missing = z - states.bare("resid_post", last).cpu()
        residuals = missing.double() / n_left / factor
        left = self.method.left_of(layer, keys, self._keys[layer])
        weight_norm = float(view.W_out[layer].norm())
        before = project(view, layer, keys).cpu()
        self._factors[layer].append((left, residuals))
        return _Written(
            layer=layer,
            keys=keys,
            missing=missing,
            before=before,
            residuals=residuals,
            written=keys.double() @ left @ residuals,
            delta_norm=left.norm(dim=0) * residuals.norm(dim=-1),
            weight_norm=weight_norm,
            leverage=self.method.covariance.leverage(layer, keys, ridge=self.method.ridge),
        )

    def _states(self, located: Sequence[LocatedRequest], places: Any, n_contexts: int) -> Any:
        return subject_states(
            self.model.edited(self.terms()),
            located,
            places,
            n_contexts=n_contexts,
            contexts=self.contexts,
        )

    def _numbered(self, steps: Sequence[OptimisationStep]) -> list[OptimisationStep]:
        return [replace(step, request=self.numbers[step.request]) for step in steps]

    def _show(self, trace: EditTrace) -> None:
        assert self.on_trace is not None
        steps = (*self.steps, *self._numbered(trace.steps))
        self.on_trace(EditTrace(steps, tuple(self.diagnostics)))

    def _tell(self, done_of_batch: int) -> None:
        if self.on_step is not None:
            before = self.n_written * self.per_fact
            self.on_step(before + done_of_batch, self.n_facts * self.per_fact)


@dataclass(frozen=True, eq=False)
class _Written:
    """What one layer was given in one batch, row by fact."""

    layer: int
    keys: Keys
    missing: Tensor
    before: Tensor
    residuals: Tensor
    written: Tensor
    delta_norm: Tensor
    weight_norm: float
    leverage: Tensor

    def diagnostics(self, numbers: list[int], z_errors: Tensor) -> list[LayerDiagnostic]:
        """One a fact."""
        fractions = (self.written * self.residuals).sum(-1) / self.residuals.pow(2).sum(-1)
        wanted = (self.before + self.residuals).float()
        written = (self.before + self.written).float()
        return [
            LayerDiagnostic(
                request=number,
                layer=self.layer,
                denominator=float(self.leverage[i]),
                delta_norm=float(self.delta_norm[i]),
                weight_norm=self.weight_norm,
                leverage=float(self.leverage[i]),
                write_fraction=float(fractions[i]),
                key=self.keys[i],
                value_before=self.before[i],
                value_wanted=wanted[i],
                value_written=written[i],
                z_error=float(z_errors[i]),
            )
            for i, number in enumerate(numbers)
        ]


def _keys_of(model: HookedModel, layer: int) -> Keys:
    """The keys that the edits which stand in a model have written in a layer."""
    edits = [edit for edit in model.edits if isinstance(edit, Edit)]
    keys = [d.key.cpu() for e in edits for d in e.trace.diagnostics if d.layer == layer]
    return torch.stack(keys) if keys else torch.zeros(0, model.spec.layers[layer].d_mlp or 0)
