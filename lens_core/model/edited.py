"""A model with edits that stand: a view that shares every weight and never changes one.

    view = model.edited([edit])              # a second model in no more memory than the edit
    view.generate("The Eiffel Tower is in")  # every analysis takes the view as it takes the model

Two views of one model know nothing of each other, whatever thread runs them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.interventions.edit import Intervention
from lens_core.model.errors import InterventionError, UnknownSiteError

if TYPE_CHECKING:
    from lens_core.model.config import ModelConfig
    from lens_core.model.run import Place
    from lens_core.model.spec import ModelSpec

# Which projection a low-rank edit of a site changes.
PROJECTIONS = {"mlp_out": "w_out", "attn_out": "w_o", "mlp_pre": "w_in", "mlp_gate": "w_gate"}


class HoldsInterventions(Protocol):
    """Something that is carried out as interventions, such as `lens_core.editing.Edit`."""

    @property
    def interventions(self) -> Sequence[Intervention]:
        """Low-rank edits of projections."""


class StandingTerm:
    """What the standing edits of one projection add to its output.

    One sum for all of them: x [left_1 left_2 ...] [right_1; right_2; ...], or x times the whole
    difference of the weight where that is less work.

    Attributes:
        edit: the first of them, for reports.
        applied: always; a weight counts as used though a run stops before it.
    """

    applied = True

    def __init__(self, edits: Sequence[Intervention]) -> None:
        self.edit = edits[0]
        self._edits = tuple(edits)
        # Made when first needed. Two threads may both make it, and get the same numbers.
        self._factors: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}
        self._delta: Tensor | None = None

    def apply(
        self, x: Float[Tensor, "batch pos d_in"], y: Float[Tensor, "batch pos d_out"], offset: int
    ) -> Float[Tensor, "batch pos d_out"]:
        """The projection's output `y` for its input `x`, with the edits' share."""
        key = (x.device, x.dtype)
        if key not in self._factors:
            self._factors[key] = tuple(t.to(x.device, x.dtype) for t in self._cheapest())
        added = x
        for factor in self._factors[key]:
            added = added @ factor
        return y + added

    @property
    def delta(self) -> Float[Tensor, "d_in d_out"]:
        """The sum of the edits as the difference of a weight, on the CPU."""
        if self._delta is None:
            left, right = self._joined()
            self._delta = left @ right
        return self._delta

    def _joined(self) -> tuple[Tensor, Tensor]:
        left = torch.cat([e.tensors["left"].detach().float().cpu() for e in self._edits], dim=1)
        right = torch.cat([e.tensors["right"].detach().float().cpu() for e in self._edits], dim=0)
        return left, right

    def _cheapest(self) -> tuple[Tensor, ...]:
        left, right = self._joined()
        rank, (d_in, d_out) = left.shape[1], (left.shape[0], right.shape[1])
        return (left, right) if rank * (d_in + d_out) <= d_in * d_out else (self.delta,)


class Edited:
    """Mixin of HookedModel: views with standing edits.

    Attributes:
        standing: the low-rank edits that hold in every run, in order; () in a model as loaded.
        edits: what they were given as.
    """

    cfg: ModelConfig
    spec: ModelSpec
    standing: tuple[Intervention, ...] = ()
    edits: tuple[Intervention | HoldsInterventions, ...] = ()
    _standing_terms: Mapping[Place, StandingTerm] = {}
    _base: Self | None = None

    if TYPE_CHECKING:

        def resolve_layer(self, layer: int) -> int:
            """See `HookedModel`."""

    @property
    def base(self) -> Self:
        """The model without its standing edits; the model itself if it has none."""
        return self if self._base is None else self._base

    def edited(
        self, edits: Iterable[Intervention | HoldsInterventions], *, name: str | None = None
    ) -> Self:
        """A view of this model with edits of its weights that hold in every run of it.

        The view shares all weights with this model, which stays as it is to the last bit. Its
        `W_out` and the other weights that were edited include the edits. Edits add up with those
        that this model has already; one that a run does not reach is no error, as with any weight.
        `hf_model` is shared and knows nothing of the edits: call the view.

        Args:
            edits: `low_rank` interventions without selectors, or what holds such, as the edits of
                `lens_core.editing` do.
            name: of the view, for captions; None: this model's and the number of edits.

        Raises:
            InterventionError: an edit is not of a weight, does not fit the model, is not finite, or
                is a text to put before prompts (in-context), which no weight can hold.

        Example:
            >>> import torch
            >>> from lens_core import HookedModel
            >>> from lens_core.interventions import low_rank
            >>> model = HookedModel.from_pretrained("tiny-world")
            >>> cfg = model.cfg
            >>> term = low_rank("mlp_out", 1, torch.ones(cfg.d_mlp, 1), torch.ones(1, cfg.d_model))
            >>> view = model.edited([term])
            >>> float((view.W_out[1] - model.W_out[1]).mean())
            1.0
        """
        given = list(edits)
        terms = [self._fitting(term) for edit in given for term in _terms_of(edit)]
        standing = (*self.standing, *terms)
        at: dict[Place, list[Intervention]] = {}
        for term in standing:
            assert term.layer is not None
            at.setdefault((term.site, term.layer), []).append(term)
        view = copy.copy(self)
        view.standing, view.edits = standing, (*self.edits, *given)
        view._standing_terms = {place: StandingTerm(here) for place, here in at.items()}
        view._base = self.base
        if name is None:
            count = f"{len(given)} edit{'s' if len(given) != 1 else ''}"
            name = f"{self.cfg.name} with {count}" if given else self.cfg.name
        view.cfg = dataclasses.replace(self.cfg, name=name)
        return view

    def _fitting(self, term: Intervention) -> Intervention:
        """The edit with its layer counted from the start, if it can stand in this model."""
        if not isinstance(term, Intervention) or term.op != "low_rank" or term.selectors:
            raise InterventionError(
                f"{term!s:.80} cannot stand: only low_rank edits without selectors change a weight;"
                " give the others to each run."
            )
        assert term.layer is not None
        try:
            layer = self.resolve_layer(term.layer)
        except UnknownSiteError as error:
            raise InterventionError(f"{term}: {error}") from None
        d_in, d_out = self._projection_sizes(term.site, layer)
        left, right = term.tensors["left"], term.tensors["right"]
        if left.shape[0] != d_in or right.shape[1] != d_out:
            raise InterventionError(
                f"{term}: this projection of {self.cfg.name} maps {d_in} to {d_out}, and the edit "
                f"was made for one that maps {left.shape[0]} to {right.shape[1]}."
            )
        if not (bool(left.isfinite().all()) and bool(right.isfinite().all())):
            raise InterventionError(f"{term}: it holds numbers that are not finite.")
        return dataclasses.replace(term, layer=layer)

    def _projection_sizes(self, site: str, layer: int) -> tuple[int, int]:
        """Input and output width of the projection that feeds a site.

        Raises:
            InterventionError: the layer has no such projection of its own.
        """
        spec, cfg = self.spec.layers[layer], self.cfg
        part = PROJECTIONS[site]
        if getattr(spec, part) is None:
            raise InterventionError(
                f"{cfg.name} has no projection of its own in front of {site} of layer {layer}."
            )
        if part == "w_out":
            return spec.d_mlp or 0, cfg.d_model
        if part == "w_o":
            return cfg.n_heads * cfg.d_head, cfg.d_model
        return cfg.d_model, spec.d_mlp or 0

    def _standing_delta(self, site: str, layer: int) -> Tensor | None:
        term = self._standing_terms.get((site, layer))
        return None if term is None else term.delta


def _terms_of(edit: Intervention | HoldsInterventions) -> Sequence[Intervention]:
    if isinstance(edit, Intervention):
        return (edit,)
    if getattr(edit, "prefix", ""):
        raise InterventionError(
            "An in-context edit is a text and changes no weight: put its prefix before each prompt."
        )
    terms = getattr(edit, "interventions", None)
    if terms is None:
        raise InterventionError(f"{edit!r:.60} is no edit.")
    return tuple(terms)
