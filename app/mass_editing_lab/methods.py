"""The methods with the settings that the controls ask for, and what lambda lets them write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from app.mass_editing_lab.experiment import OnStep, Write
from app.mass_editing_lab.settings import Settings
from lens_core.editing import (
    Edit,
    EditRequest,
    MemitSettings,
    alphaedit,
    emmet,
    fine_tune,
    memit,
    preset,
    rome,
)
from lens_core.editing.keys import subject_states
from lens_core.editing.spread import covariance_of

if TYPE_CHECKING:
    from lens_core import HookedModel

_FUNCTIONS: dict[str, Any] = {
    "r-rome": rome,
    "original": rome,
    "memit": memit,
    "emmet": emmet,
    "alphaedit": alphaedit,
    "ft": fine_tune,
}
_VARIANTS = ("r-rome", "original")


def settings_of(model: HookedModel, method: str, settings: Settings) -> Any:
    """The model's own settings of a method, with what the controls say otherwise.

    Raises EditingError for what the method does not take.
    """
    start = preset(model, "rome" if method in _VARIANTS else method).settings
    changes: dict[str, Any] = {"variant": method} if method in _VARIANTS else {}
    takes = {field.name for field in fields(start)}
    if "layers" in takes:
        changes["layers"] = layers_of(model, settings, start.layers)
    elif settings.edit_layer is not None:
        changes["layer"] = min(max(settings.edit_layer, 0), model.cfg.n_layers - 1)
    if "covariance_weight" in takes and settings.lam is not None:
        changes["covariance_weight"] = settings.lam / key_width(model)
    return replace(start, **changes)


def key_width(model: HookedModel) -> int:
    """How many entries a key has: d_mlp."""
    return model.cfg.d_mlp or int(model.W_out[0].shape[0])


def layers_of(model: HookedModel, settings: Settings, start: Sequence[int]) -> tuple[int, ...]:
    """The layers that are written to together, from first to last."""
    n = model.cfg.n_layers
    first = start[0] % n if settings.first_layer is None else settings.first_layer
    last = start[-1] % n if settings.last_layer is None else settings.last_layer
    first = min(max(first, 0), n - 1)
    return tuple(range(first, min(max(last, first), n - 1) + 1))


def writers(model: HookedModel, settings: Settings) -> dict[str, Write]:
    """The chosen methods, each as a function that writes facts into a model."""
    return {
        name: _writer(_FUNCTIONS[name], settings_of(model, name, settings))
        for name in settings.methods
    }


def _writer(function: Any, made_with: Any) -> Write:
    def write(model: HookedModel, requests: Sequence[EditRequest], on_step: OnStep) -> Edit:
        edit: Edit = function(model, tuple(requests), made_with, on_step=on_step)
        return edit

    return write


@dataclass(frozen=True)
class Leverage:
    """How rare the keys of some facts are in one layer: k^T C^-1 k, which averages to d_mlp."""

    values: tuple[float, ...]

    def written(self, lam: float) -> tuple[float, ...]:
        """The share of the wanted change that one fact alone gets in this layer at this lambda."""
        return tuple(rho / (1 + rho) for rho in (value / lam for value in self.values))


def leverage(
    model: HookedModel, *, requests: tuple[EditRequest, ...], layer: int, made_with: MemitSettings
) -> Leverage:
    """The leverage of each request's key in a layer, by the statistics that MEMIT would take."""
    located = [request.tokenize(model) for request in requests]
    keys = subject_states(model, located, [("mlp_post", layer)]).bare("mlp_post", layer)
    c = covariance_of(model, [layer], None, made_with.names_weight)
    return Leverage(tuple(c.leverage(layer, keys, ridge=made_with.ridge).tolist()))
