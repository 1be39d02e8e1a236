"""What is put in the place of an ablated part: nothing, its mean, or what it wrote elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attention.prompt import one_prompt
from lens_core.attribution.effects import AblationKind
from lens_core.attribution.errors import AblationError
from lens_core.attribution.frozen import exact

if TYPE_CHECKING:
    from lens_core import HookedModel

Corpus = Sequence[str | Int[Tensor, "1 pos"]]
Place = tuple[str, int]
# [draw, pos, ...]: one draw but for resample; one position where all get the same.
Values = Mapping[Place, Float[Tensor, "draw pos ..."]]


def replacements(
    model: HookedModel,
    places: Iterable[Place],
    tokens: Int[Tensor, "1 pos"],
    *,
    kind: AblationKind,
    corpus: Corpus | None,
    seed: int,
    n_draws: int,
) -> Values:
    """The values to put at each place, a site and a layer.

    Raises:
        AblationError: an unknown kind, or a corpus that is missing, empty or too short.
    """
    places = list(places)
    if kind == "zero":
        return {place: _zero(model, place[0]) for place in places}
    if kind not in ("mean", "resample"):
        raise AblationError(
            f'The kinds of ablation are "zero", "mean" and "resample", not {kind!r}.'
        )
    if not corpus:
        raise AblationError(
            f"A {kind} ablation needs a corpus: give the prompts that the values come from."
        )
    prompts = [one_prompt(model, prompt) for prompt in corpus]
    if kind == "mean":
        return _means(model, places, prompts)
    return _draws(model, places, _drawn(prompts, tokens, seed, n_draws))


def _zero(model: HookedModel, site: str) -> Tensor:
    cfg = model.cfg
    shape = (1, 1, cfg.n_heads, cfg.d_head) if site == "z" else (1, 1, cfg.d_model)
    return torch.zeros(shape, device=cfg.device)


def _means(model: HookedModel, places: Sequence[Place], prompts: Sequence[Tensor]) -> Values:
    """Over all tokens of the corpus, each counted once."""
    sums: dict[Place, Tensor] = {}
    for prompt in prompts:
        _, cache = model.run_with_cache(prompt, places, last_logits_only=True)
        for place in places:
            total = exact(cache[place]).sum(dim=1, keepdim=True)
            sums[place] = total + sums[place] if place in sums else total
    n_tokens = sum(prompt.shape[1] for prompt in prompts)
    return {place: (total / n_tokens).float() for place, total in sums.items()}


def _drawn(
    prompts: Sequence[Tensor], tokens: Int[Tensor, "1 pos"], seed: int, n_draws: int
) -> list[Tensor]:
    """Some prompts that are long enough, other than this one."""
    if n_draws < 1:
        raise AblationError(f"A resample ablation needs at least one draw, not {n_draws}.")
    length = tokens.shape[1]
    long = [prompt[:, :length] for prompt in prompts if prompt.shape[1] >= length]
    usable = [prompt for prompt in long if not torch.equal(prompt, tokens)]
    if not usable:
        raise AblationError(
            f"No other prompt of the corpus has the {length} tokens of this one; "
            "add longer prompts, or shorten this one."
        )
    order = torch.randperm(len(usable), generator=torch.Generator().manual_seed(seed))
    return [usable[i] for i in order[:n_draws].tolist()]


def _draws(model: HookedModel, places: Sequence[Place], prompts: Sequence[Tensor]) -> Values:
    caches = [model.run_with_cache(p, places, last_logits_only=True)[1] for p in prompts]
    return {place: torch.cat([cache[place] for cache in caches]) for place in places}
