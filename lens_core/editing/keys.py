"""Keys: what a layer's W_out is given at the subject's last token, where ROME and MEMIT write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.editing.contexts import Contexts, default_contexts
from lens_core.editing.errors import EditingError
from lens_core.editing.requests import LocatedRequest
from lens_core.editing.rows import Batch, Row, answer_rows, spelling_rows

if TYPE_CHECKING:
    from lens_core import HookedModel

Place = tuple[str, int]
# How far an MLP's output may be from its projection's: rounding is far below, a norm far above.
_TOLERANCE = 0.02
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class SubjectStates:
    """Activations at the subject's last token, of every request in every context.

    Attributes:
        states: by site and layer, Float [row, d].
        fact: Int [row], the number of the request; bare_row: Int [fact], its row without prefix.
    """

    states: Mapping[Place, Float[Tensor, "row d"]]
    fact: Int[Tensor, " row"]
    bare_row: Int[Tensor, " fact"]

    def mean(self, site: str, layer: int) -> Float[Tensor, "fact d"]:
        """Each request's mean over its contexts."""
        x = self.states[site, layer]
        total = torch.zeros(len(self.bare_row), x.shape[1], dtype=torch.float64, device=x.device)
        total.index_add_(0, self.fact, x.double())
        return (total / torch.bincount(self.fact)[:, None]).to(x.dtype)

    def bare(self, site: str, layer: int) -> Float[Tensor, "fact d"]:
        """Each request's in the bare prompt."""
        return self.states[site, layer][self.bare_row]


def subject_states(
    model: HookedModel,
    requests: Sequence[LocatedRequest],
    places: Iterable[Place],
    *,
    n_contexts: int = 1,
    contexts: Contexts | None = None,
    seed: int = 0,
) -> SubjectStates:
    """Read activations where edits act; one run for all requests, contexts and layers.

    Args:
        places: sites and layers, such as ("mlp_post", 3) for the keys of layer 3.
        n_contexts: the bare prompt and so many less one prefixes.
        contexts: prefixes; None: `default_contexts` of that seed.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.editing import EditRequest
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> request = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome")
        >>> states = subject_states(model, [request.tokenize(model)], [("mlp_post", 0)])
        >>> states.mean("mlp_post", 0).shape
        torch.Size([1, 1024])
    """
    if contexts is None:
        contexts = default_contexts(model, n_contexts, seed)
    wanted = [(site, model.resolve_layer(layer)) for site, layer in places]
    rows: list[Row] = []
    fact: list[int] = []
    bare: list[int] = []
    for number, located in enumerate(requests):
        request = located.request
        words = (request.subject, request.target_new, request.target_true)
        bare.append(len(rows))
        for row in answer_rows(model, located, contexts.take(n_contexts, words)):
            rows.append(row.key_only)
            fact.append(number)
    states = _at_subjects(model, rows, wanted)
    device = model.cfg.device
    return SubjectStates(
        states, torch.tensor(fact, device=device), torch.tensor(bare, device=device)
    )


@torch.no_grad()
def keys_by_spelling(
    model: HookedModel, located: LocatedRequest, layer: int, n_contexts: int, contexts: Contexts
) -> Float[Tensor, "spelling d_mlp"]:
    """One request's keys, a mean over contexts for each last token that its subject can have."""
    request = located.request
    words = (request.subject, request.target_new, request.target_true)
    rows = answer_rows(model, located, contexts.take(n_contexts, words))
    rows = [row.key_only for row in rows + spelling_rows(model, located, rows)]
    keys = _at_subjects(model, rows, [("mlp_post", layer)])["mlp_post", layer].double()
    last = torch.tensor([row.ids[row.subject] for row in rows], device=keys.device)
    return torch.stack([keys[last == token].mean(dim=0) for token in last.unique()])


def _at_subjects(
    model: HookedModel, rows: Sequence[Row], places: Sequence[Place]
) -> dict[Place, Float[Tensor, "row d"]]:
    """Activations at each row's last subject token; no layer above the places is run."""
    found: dict[Place, list[Tensor]] = {place: [] for place in places}
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        batch = Batch.of(rows[start : start + _ROWS_AT_ONCE], model.cfg.device, model.pad_id)
        _, cache = model.run_with_cache(
            batch.tokens,
            names=places,
            stop_at_layer=max(layer for _, layer in places) + 1,
            attention_mask=batch.mask,
        )
        each = torch.arange(len(batch.tokens), device=batch.subject.device)
        for place, parts in found.items():
            parts.append(cache[place][each, batch.subject])
    return {place: torch.cat(parts) for place, parts in found.items()}


def project(
    model: HookedModel, layer: int, keys: Float[Tensor, "n d_mlp"]
) -> Float[Tensor, "n d_model"]:
    """What W_out gives for some keys, its bias and the model's standing edits included."""
    weight, bias = model.W_out[layer].detach(), model.b_out[layer].detach()
    return (keys.to(weight.device, weight.dtype) @ weight + bias).float()


def added_per_output(
    model: HookedModel,
    layer: int,
    keys: Float[Tensor, "n d_mlp"],
    values: Float[Tensor, "n d_model"],
) -> float:
    """What the residual stream gets for one unit of W_out's output: 1, or the model's multiplier.

    Args:
        keys, values: what W_out was given in a run, and what the MLP added there.

    Raises:
        EditingError: there is more between the two than a factor, a norm for example.
    """
    factor = float(model.spec.layers[layer].mlp_scale)
    values = values.float()
    error = (factor * project(model, layer, keys).to(values.device) - values).norm()
    if not bool(error <= _TOLERANCE * values.norm()):
        raise EditingError(
            f"{model.cfg.name} changes the output of W_out in layer {layer} before it is added to "
            "the residual stream (a norm after the MLP), and ROME cannot choose it freely there; "
            "use fine-tuning or an in-context edit."
        )
    return factor
