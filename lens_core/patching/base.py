"""The unpatched run that cells resume from: its residual stream, keys and values, and logits.

What a cell does not change need not be computed again. A run patched at layer l resumes from the
residual stream there; one patched at position p resumes from the keys and values of the positions
before it, which nothing at p can change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from lens_core.interventions import Intervention
from lens_core.model.execute import check_applied, check_mask, forward, plan_interventions
from lens_core.model.run import Run, active
from lens_core.model.sites import SiteKey
from lens_core.patching.errors import PatchingError

if TYPE_CHECKING:
    from lens_core import HookedModel

_EMBEDDINGS = ("embed", "pos_embed")


@dataclass(frozen=True, eq=False)
class Base:
    """One unpatched run of a batch of prompts of equal length; make it with `record_base`.

    Attributes:
        tokens: Int [row, pos]; mask: Int [row, pos], 0 at left padding, None without.
        interventions: edits of the embeddings that the run was made under.
        resid: the residual stream in front of each layer and after the last, Float [row, pos,
            d_model] each.
        keys_values: of each layer, Float [row, head, pos, d_head] each; empty if the model's
            cannot be continued.
        logits: Float [row, d_vocab], of the last position.
    """

    model: HookedModel
    tokens: Int[Tensor, "row pos"]
    mask: Int[Tensor, "row pos"] | None
    interventions: tuple[Intervention, ...]
    resid: tuple[Float[Tensor, "row pos d_model"], ...]
    keys_values: tuple[tuple[Tensor, Tensor], ...]
    logits: Float[Tensor, "row d_vocab"]


def record_base(
    model: HookedModel,
    tokens: Int[Tensor, "row pos"],
    interventions: Sequence[Intervention] = (),
    *,
    attention_mask: Int[Tensor, "row pos"] | None = None,
) -> Base:
    """Run prompts once and keep what patched runs resume from.

    Args:
        tokens: prompts of equal length (left padding is told by the mask).
        interventions: of the embeddings only, such as the noise of causal tracing; they hold in
            every patched run.

    Raises:
        PatchingError: an intervention elsewhere, or one that surrounds the call.
        InterventionError, TokenError, PromptTooLongError: as `HookedModel.run`.
    """
    if model._ambient() or any(edit.site not in _EMBEDDINGS for edit in interventions):
        raise PatchingError(
            "A patched run resumes in the middle of the model, where interventions of the base "
            "would be lost; only those of embed and pos_embed can hold in it."
        )
    tokens = model._as_tokens(tokens)
    mask = check_mask(model, tokens, attention_mask)
    run = Run(batch=tokens.shape[0], copied=model.spec.copied, standing=model._standing_terms)
    plan_interventions(model, run, interventions, tokens.shape, tokens.shape[1])
    n_layers = model.cfg.n_layers
    for layer in range(n_layers):
        run.at("resid_pre", layer).record = True
    run.at("resid_post", n_layers - 1).record = True
    past = DynamicCache()
    with torch.no_grad(), active(run):
        logits = forward(model, tokens, mask, last_only=True, past=past)
    check_applied(run)
    resid = [run.cache[SiteKey("resid_pre", layer)] for layer in range(n_layers)]
    resid.append(run.cache[SiteKey("resid_post", n_layers - 1)])
    kept = _keys_values(past, n_layers, tokens.shape)
    return Base(model, tokens, mask, tuple(interventions), tuple(resid), kept, logits[:, -1])


def _keys_values(
    past: DynamicCache, n_layers: int, shape: torch.Size
) -> tuple[tuple[Tensor, Tensor], ...]:
    """What the cache holds, if it holds every position of every layer."""
    found = tuple((layer.keys, layer.values) for layer in past.layers)
    fits = len(found) == n_layers and all(
        isinstance(x, Tensor) and x.ndim == 4 and (x.shape[0], x.shape[2]) == tuple(shape)
        for pair in found
        for x in pair
    )
    return found if fits else ()


class PrefixCache(DynamicCache):
    """The keys and values before a position; what comes after is handed on and not kept.

    Attributes:
        rows: which row of the base each row of the batch continues.
    """

    def __init__(self, base: Base, length: int) -> None:
        super().__init__()
        self._prefix = [(k[:, :, :length], v[:, :, :length]) for k, v in base.keys_values]
        self.rows = torch.zeros(1, dtype=torch.long)
        for layer, (k, v) in enumerate(self._prefix):
            super().update(k[:1], v[:1], layer)  # the length of these makes masks and positions

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions, those of the prefix being the base's."""
        k, v = self._prefix[layer_idx]
        if k.shape[0] == 1:
            shape = (key_states.shape[0], *k.shape[1:])
            k, v = k.expand(shape), v.expand(shape[0], *v.shape[1:])
        else:
            rows = self.rows.to(k.device)
            k, v = k[rows], v[rows]
        return torch.cat([k, key_states], dim=2), torch.cat([v, value_states], dim=2)
