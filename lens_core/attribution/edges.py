"""Blocking attention: cut what a head moves along some edges, and see what changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.attention.prompt import one_prompt
from lens_core.attribution.effects import InterventionEffect
from lens_core.attribution.errors import AblationError
from lens_core.attribution.predict import divergence_nats, prediction
from lens_core.attribution.result import Array
from lens_core.attribution.trace import ask, resolve_position
from lens_core.interventions import Intervention, set_to, zero
from lens_core.interventions.edit import Where
from lens_core.model.cache import ActivationCache

if TYPE_CHECKING:
    from lens_core import HookedModel

# Above what counts as masked, and so far below any score that its weight is zero: a row in which
# every edge is blocked alike then keeps its weights.
_BLOCKED_SCORE = -30_000.0


def block_attention(
    layer: int,
    head: int | Sequence[int] | None = None,
    dest: int | Sequence[int] | None = None,
    src: int | Sequence[int] | None = None,
    *,
    renormalise: bool = False,
) -> Intervention:
    """An intervention that stops heads of a layer from moving information along some edges.

    One edge (dest and src), a column (src: nothing is read from it), a row (dest: it reads
    nothing), or a whole head (neither).

    Args:
        head: None: every head of the layer.
        dest, src: positions attending and attended to; None: all.
        renormalise: False: the pattern's cells become zero and the row sums to less than one, so
            that the other edges carry what they carried. True: the scores' cells are blocked before
            the softmax, and the row's other weights grow to make up for it (a row in which nothing
            else is left keeps its weights).

    Raises:
        AblationError: src is after dest, or renormalise without src.

    Example:
        >>> str(block_attention(3, 1, dest=7, src=2))
        'block attention pattern[3] (positions=[7], heads=[1], keys=[2])'
    """
    if isinstance(dest, int) and isinstance(src, int) and src > dest >= 0:
        raise AblationError(
            f"Position {dest} cannot see the later position {src}, so there is no edge to block."
        )
    where: Where = {"heads": head, "positions": dest, "keys": src}
    if not renormalise:
        return zero("pattern", layer, name="block attention", **where)
    if src is None:
        raise AblationError(
            "A whole row cannot be made up for by its other weights; name src, or do not "
            "renormalise."
        )
    return set_to("scores", layer, _BLOCKED_SCORE, name="block attention", **where)


def intervention_effect(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    edits: Iterable[Intervention],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    position: int = -1,
    top_k: int = 5,
    interventions: Iterable[Intervention] = (),
) -> InterventionEffect:
    """The answer and every head's attention with and without some edits, such as a blocked edge.

    Args:
        edits: what to compare: in the second run only, after `interventions`, which are in both.
        target: None: the best guess before the edits.

    Raises:
        InterventionError, InterventionNotAppliedError: an edit cannot apply, or applied nowhere.
        AttributionError, TokenError: as `direct_logit_attribution`.

    Example:
        >>> edge = block_attention(6, 4, dest=5, src=2)
        >>> intervention_effect(model, prompt, [edge]).total_effect  # doctest: +SKIP
    """
    tokens = one_prompt(model, prompt_or_tokens)
    place = resolve_position(position, tokens.shape[1])
    layers = model.sites.get("pattern") or ()
    names = ["pattern"] if layers else []
    both = tuple(interventions)
    with torch.no_grad():
        logits, before = model.run_with_cache(tokens, names, both)
        edited, after = model.run_with_cache(tokens, names, (*both, *edits))
    row, new = logits[0, place].float(), edited[0, place].float()
    question = ask(model, tokens, place, row, target, foil)
    change = _pattern_change(model, layers, before, after)
    return InterventionEffect(
        question=question,
        before=prediction(model, question, row[None], top_k),
        after=prediction(model, question, new[None], top_k),
        kl_nats=float(divergence_nats(row, new[None])),
        pattern_change=change[:, :, place],
        pattern_change_max=change.max(-1),
    )


def _pattern_change(
    model: HookedModel, layers: Iterable[int], before: ActivationCache, after: ActivationCache
) -> Array:
    """Half the L1 distance of every attention row, [n_layers, n_heads, T]; NaN without heads."""
    n_positions = before.tokens.shape[1]
    change = np.full((model.cfg.n_layers, model.cfg.n_heads, n_positions), np.nan)
    for layer in layers:
        moved = (after["pattern", layer] - before["pattern", layer])[0].float().abs().sum(-1) / 2
        change[layer] = moved.cpu().numpy()
    return change
