"""What is written into a patched run: the other run, nothing, a mean, another prompt, or noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.model.cache import ActivationCache
from lens_core.model.sites import SITES
from lens_core.patching.base import Base
from lens_core.patching.cells import Place, Sources
from lens_core.patching.errors import PatchingError
from lens_core.patching.result import PatchWith

_POSITIONAL = ("scores", "pattern")


@dataclass(frozen=True, eq=False)
class Other:
    """The runs that a base's rows are patched from.

    Attributes:
        tokens: Int [row, pos]; mask: of left padding, None without.
        position: Int [row, base_pos], the position that answers to each of the base's; -1: none.
    """

    tokens: Int[Tensor, "row pos"]
    mask: Int[Tensor, "row pos"] | None
    position: Int[Tensor, "row base_pos"]


@dataclass(frozen=True, eq=False)
class Filling:
    """What patches put in.

    Attributes:
        reference: prompts that means are taken over and resampled activations come from.
        noise_std: standard deviation of the noise, in multiples of the site's own.
        seed: of noise and draws.
    """

    kind: PatchWith = "other run"
    reference: Sequence[Int[Tensor, "1 pos"]] = ()
    noise_std: float = 1.0
    seed: int = 0


def make_sources(
    base: Base, other: Other, cache: ActivationCache, places: Sequence[Place], filling: Filling
) -> Sources:
    """For each place, what each row of the base is patched with.

    Args:
        cache: of the other runs, with all the places in it.

    Raises:
        PatchingError: too few reference prompts, or of the wrong length, or an unknown kind.
    """
    model, kind, reference = base.model, filling.kind, filling.reference
    if kind == "other run":
        return {place: aligned(cache[place], place[0], other) for place in places}
    own = model.run_with_cache(
        base.tokens, places, base.interventions, attention_mask=base.mask, last_logits_only=True
    )[1]
    if kind == "zero":
        return {place: torch.zeros_like(own[place]) for place in places}
    if kind == "noise":
        return {
            place: _noised(own[place], place, filling.noise_std, filling.seed) for place in places
        }
    if kind == "mean":
        return _means(base, places, reference)
    if kind == "resample":
        return _resampled(base, places, reference, filling.seed)
    raise PatchingError(
        f'Patch with "other run", "zero", "mean", "resample" or "noise", not {kind!r}.'
    )


def aligned(x: Tensor, site: str, other: Other) -> Tensor:
    """The other run's activations, moved to the positions of the base that they answer to."""
    n = other.position.shape[1]
    here = torch.arange(n, device=other.position.device)
    if other.tokens.shape[1] == n and bool(((other.position == here) | (other.position < 0)).all()):
        return x
    if site in _POSITIONAL:
        raise PatchingError(
            f"{site} has an entry for every two positions; patch it between prompts of one length."
        )
    index = other.position.clamp(min=0).to(x.device)
    rows = torch.arange(x.shape[0], device=x.device)[:, None]
    return x[rows, index]


def _noised(x: Tensor, place: Place, noise_std: float, seed: int) -> Tensor:
    if place[0] in _POSITIONAL:
        raise PatchingError(f"Noise is not defined for {place[0]}; patch q, k or z with it.")
    layer = -1 if place[1] is None else place[1]
    generator = torch.Generator().manual_seed(seed * 1_000_003 + layer + 1)
    noise = torch.randn(x.shape, generator=generator).to(x.device, x.dtype)
    return x + noise_std * x.float().std().to(x.dtype) * noise


def _means(base: Base, places: Sequence[Place], prompts: Sequence[Tensor]) -> Sources:
    """At each position where all prompts have the base's length, else over all their positions."""
    n_rows, n_pos = base.tokens.shape
    by_position = all(prompt.shape[1] == n_pos for prompt in prompts)
    if len(prompts) < 2 or (not by_position and any(p[0] in _POSITIONAL for p in places)):
        raise PatchingError(
            "A mean needs at least two reference prompts, and for scores and patterns prompts of "
            f"{n_pos} tokens each; {len(prompts)} were given."
        )
    sums: dict[Place, Tensor] = {}
    for prompt in prompts:
        cache = base.model.run_with_cache(prompt, places, last_logits_only=True)[1]
        for place in places:
            x = cache[place].double()
            x = x if by_position else x.sum(dim=1, keepdim=True)
            sums[place] = sums[place] + x if place in sums else x
    count = len(prompts) if by_position else sum(prompt.shape[1] for prompt in prompts)
    return {
        place: (total / count).float().expand(n_rows, *_sized(total, place, n_pos))
        for place, total in sums.items()
    }


def _sized(x: Tensor, place: Place, n_pos: int) -> list[int]:
    axes = SITES[place[0]].axes
    return [n_pos if axis in ("pos", "key") else x.shape[i] for i, axis in enumerate(axes)][1:]


def _resampled(
    base: Base, places: Sequence[Place], prompts: Sequence[Tensor], seed: int
) -> Sources:
    n_pos = base.tokens.shape[1]
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for row in base.tokens:
        usable = [p for p in prompts if p.shape[1] == n_pos and not torch.equal(p[0], row)]
        if not usable:
            raise PatchingError(
                f"Resampling needs another reference prompt of {n_pos} tokens; add some."
            )
        drawn.append(usable[int(torch.randint(len(usable), (1,), generator=generator))][0])
    cache = base.model.run_with_cache(torch.stack(drawn), places, last_logits_only=True)[1]
    return {place: cache[place] for place in places}
