"""Every head ablated in turn: which heads does an answer depend on?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attribution.direct import has_heads, head_values
from lens_core.attribution.effects import AblationKind, HeadEffects
from lens_core.attribution.frozen import exact
from lens_core.attribution.predict import divergence_nats
from lens_core.attribution.replacements import Corpus, replacements
from lens_core.attribution.trace import Trace, trace
from lens_core.interventions import Intervention, set_to
from lens_core.lens.head import head_logits

if TYPE_CHECKING:
    from lens_core import HookedModel

OnStep = Callable[[int, int], None]
# Rows of one batch hold this many tokens together, so that a long prompt stays within memory.
_TOKENS_AT_ONCE = 4096


def ablate_each_head(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    kind: AblationKind = "zero",
    corpus: Corpus | None = None,
    seed: int = 0,
    n_draws: int = 8,
    position: int = -1,
    interventions: Iterable[Intervention] = (),
    on_step: OnStep | None = None,
) -> HeadEffects:
    """`ablate` for every head by itself, at every position, in one batch a layer.

    The other arguments and the errors are those of `ablate`.

    Args:
        on_step: ``on_step(done, total)`` after each layer; what it raises ends the work.

    Example:
        >>> every = ablate_each_head(model, prompt, " Paris")  # doctest: +SKIP
        >>> every.total_effect.min(), every.direct_effect.min()  # doctest: +SKIP
    """
    with torch.no_grad():
        run = trace(model, prompt_or_tokens, target, foil, position, interventions)
        layers = [n for n in range(model.cfg.n_layers) if has_heads(model, n)]
        values = replacements(
            model,
            [("z", layer) for layer in layers],
            run.tokens,
            kind=kind,
            corpus=corpus,
            seed=seed,
            n_draws=n_draws,
        )
        shape = (model.cfg.n_layers, model.cfg.n_heads)
        total, direct, kl_nats = (np.full(shape, np.nan) for _ in range(3))
        for done, layer in enumerate(layers, start=1):
            rows = _each_head(run, layer, values["z", layer])
            total[layer] = _values(run, rows).mean(1).numpy() - run.value
            kl_nats[layer] = divergence_nats(run.logits, rows).mean(1).numpy()
            direct[layer] = _direct(run, layer, values["z", layer]).numpy()
            if on_step is not None:
                on_step(done, len(layers))
    return HeadEffects(
        question=run.question,
        kind=kind,
        value=run.value,
        total_effect=total,
        direct_effect=direct,
        kl_nats=kl_nats,
        seed=seed,
    )


def _each_head(
    run: Trace, layer: int, value: Float[Tensor, "draw pos head d_head"]
) -> Float[Tensor, "head draw d_vocab"]:
    """The logits at the question's position with each head, and each draw, in turn replaced."""
    n_heads, n_draws = value.shape[2], len(value)
    pairs = [(head, draw) for head in range(n_heads) for draw in range(n_draws)]
    edited = bool(run.interventions or run.model._ambient())
    # Other edits hold for one row (and noise depends on how many there are): then one at a time.
    size = 1 if edited else max(1, _TOKENS_AT_ONCE // run.tokens.shape[1])
    rows = [
        _batch(run, layer, value, pairs[start : start + size], from_the_start=edited)
        for start in range(0, len(pairs), size)
    ]
    return torch.cat(rows).reshape(n_heads, n_draws, -1)


def _batch(
    run: Trace,
    layer: int,
    value: Float[Tensor, "draw pos head d_head"],
    pairs: Sequence[tuple[int, int]],
    *,
    from_the_start: bool,
) -> Float[Tensor, "row d_vocab"]:
    """One run in which row i has head `pairs[i][0]` replaced by draw `pairs[i][1]`."""
    model, n = run.model, len(pairs)
    edit = set_to(
        "z",
        layer,
        torch.stack([value[draw, :, head] for head, draw in pairs]),
        name="ablate",
        rows=range(n),
        heads=[head for head, _ in pairs],
        paired=True,
    )
    start = 0 if from_the_start else layer
    end = ("resid_post", model.cfg.n_layers - 1)
    logits, cache = model.run_with_cache(
        run.tokens.expand(n, -1),
        [end],
        (*run.interventions, edit),
        start_at_layer=start,
        resid=None if start == 0 else run.cache["resid_pre", layer].expand(n, -1, -1),
        last_logits_only=True,
    )
    if run.question.position == run.tokens.shape[1] - 1:
        return logits[:, -1].float()
    return head_logits(model, cache[end][:, run.question.position])


def _values(run: Trace, rows: Float[Tensor, "head draw d_vocab"]) -> Float[Tensor, "head draw"]:
    values = exact(rows[..., run.question.target_id])
    foil = run.question.foil_id
    return values if foil is None else values - exact(rows[..., foil])


def _direct(
    run: Trace, layer: int, value: Float[Tensor, "draw pos head d_head"]
) -> Float[Tensor, " head"]:
    """The mean change of each head's own part."""
    here = exact(value[:, run.question.position if value.shape[1] > 1 else 0])
    new, _ = head_values(run, layer, here)
    old, _ = head_values(run, layer, run.at("z", layer))
    return new.mean(0) - old
