"""Ablation: what happens to an answer without some heads or MLPs, and by which path.

    from lens_core.attribution import ablate

    effect = ablate(model, prompt, [(3, 1), (5, "mlp")], " Paris", " Rome")
    print(effect.total_effect, effect.direct_effect, effect.indirect_effect)

What it answers: how much the answer changes when a part writes something else. Zero is a value
that later parts have never seen; the mean over a corpus or another prompt's value (resample) is
nearer to "without the information". Later parts may make up for what is missing, so a small effect
does not show that a part does nothing.

After Wang et al. 2022 (arXiv 2211.00593, mean ablation), Chan et al., "Causal scrubbing" (2022,
resample ablation), and McGrath et al., "The Hydra effect" (2023, arXiv 2307.15771).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attribution.direct import has_heads
from lens_core.attribution.effects import Ablation, AblationKind, PartName
from lens_core.attribution.errors import AblationError
from lens_core.attribution.frozen import exact
from lens_core.attribution.predict import divergence_nats, prediction
from lens_core.attribution.replacements import Corpus, Place, Values, replacements
from lens_core.attribution.trace import Trace, question_value, resolve_position, trace
from lens_core.interventions import Intervention, set_to
from lens_core.lens.head import head_logits

if TYPE_CHECKING:
    from lens_core import HookedModel

# The heads of a layer to ablate; None for a site that is ablated whole.
Chosen = dict[Place, list[int] | None]


def ablate(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    parts: Sequence[PartName],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    kind: AblationKind = "zero",
    corpus: Corpus | None = None,
    seed: int = 0,
    n_draws: int = 8,
    position: int = -1,
    positions: Sequence[int] | None = None,
    top_k: int = 5,
    interventions: Iterable[Intervention] = (),
) -> Ablation:
    """Replace what some heads and MLPs write, and compare the answers.

    Args:
        parts: (layer, head), (layer, "mlp") or (layer, "attn"), together.
        target, foil, position: the question, as in `direct_logit_attribution`.
        kind: "zero": the part writes nothing (of a head: its z is zero; the biases of attention
            stay; of an MLP or a whole attention, all it writes is zero). "mean": its mean over all
            tokens of the corpus. "resample": what it wrote at the same positions of another prompt
            of the corpus, for `n_draws` prompts (all, if there are fewer), drawn by `seed`.
        corpus: prompts; for resample those with at least as many tokens as this one are used.
        positions: where to ablate; None: at every position.
        interventions: apply in both runs, before the ablation.

    Raises:
        AblationError: no such part, no corpus where one is needed, or none of its prompts is long
            enough.
        AttributionError, TokenError: as `direct_logit_attribution`.

    Example:
        >>> effect = ablate(model, prompt, [(6, 4)], " Paris")  # doctest: +SKIP
        >>> effect.direct_effect, effect.indirect_effect  # doctest: +SKIP
    """
    chosen = choose_parts(model, parts)
    with torch.no_grad():
        run = trace(model, prompt_or_tokens, target, foil, position, interventions)
        where = _positions(positions, run.tokens.shape[1])
        values = replacements(
            model, chosen, run.tokens, kind=kind, corpus=corpus, seed=seed, n_draws=n_draws
        )
        rows = torch.stack([_rerun(run, edits) for edits in _draws(values, chosen, where)])
        changes = _changes(run, chosen, values, where)
        end = run.at("resid_post", model.cfg.n_layers - 1)
        renormed = head_logits(model, (end + changes).to(model.cfg.device))
    return Ablation(
        question=run.question,
        kind=kind,
        parts=tuple((model.resolve_layer(layer), which) for layer, which in parts),
        positions=where,
        before=prediction(model, run.question, run.logits[None], top_k),
        after=prediction(model, run.question, rows, top_k),
        direct_effect=float((changes @ run.head.direction).mean()),
        direct_effect_renormed=_mean_value(run, renormed) - run.value,
        kl_nats=float(divergence_nats(run.logits, rows).mean()),
        draws=np.array([question_value(run.question, row) - run.value for row in rows]),
        seed=seed,
    )


def choose_parts(model: HookedModel, parts: Sequence[PartName]) -> Chosen:
    """The sites that hold the parts, and which heads of them.

    Raises:
        AblationError: there is no such part, it cannot be ablated, or it is named twice.
    """
    if not parts:
        raise AblationError("There is nothing to ablate; name at least one head or MLP.")
    chosen: Chosen = {}
    for layer, which in parts:
        layer = model.resolve_layer(layer)
        if isinstance(which, str):
            if which not in ("mlp", "attn"):
                raise AblationError(
                    f'A part is (layer, head), (layer, "mlp") or (layer, "attn"), '
                    f"not {(layer, which)!r}."
                )
            place = (f"{which}_out", layer)
            if not model.has_site(*place):
                raise AblationError(f"Layer {layer} of {model.cfg.name} has no {which} to ablate.")
            chosen[place] = None
            continue
        if not has_heads(model, layer) or not 0 <= which < model.cfg.n_heads:
            raise AblationError(f"Layer {layer} of {model.cfg.name} has no head {which} to ablate.")
        heads = chosen.setdefault(("z", layer), [])
        assert heads is not None
        heads.append(which)
    named = sum(1 if heads is None else len(set(heads)) for heads in chosen.values())
    doubled = any(("attn_out", layer) in chosen for site, layer in chosen if site == "z")
    if named < len(parts) or doubled:
        raise AblationError(
            f"Some part is named twice (a layer's attention holds its heads): {list(parts)}."
        )
    return chosen


def edits_of(
    values: Values, chosen: Chosen, draw: int, positions: Sequence[int] | None = None
) -> list[Intervention]:
    """The interventions that put one draw of the values in place of the chosen parts."""
    edits = []
    for (site, layer), heads in chosen.items():
        value = values[site, layer]
        value = value[draw : draw + 1] if len(value) > 1 else value
        if positions is not None and value.shape[1] > 1:
            value = value[:, list(positions)]
        if heads is not None:
            value = value[:, :, heads]
        edits.append(
            set_to(site, layer, value, name="ablate", positions=positions)
            if heads is None
            else set_to(site, layer, value, name="ablate", positions=positions, heads=heads)
        )
    return edits


def _draws(
    values: Values, chosen: Chosen, positions: Sequence[int] | None
) -> list[list[Intervention]]:
    n_draws = max(len(value) for value in values.values())
    return [edits_of(values, chosen, draw, positions) for draw in range(n_draws)]


def _positions(positions: Sequence[int] | None, n_positions: int) -> tuple[int, ...] | None:
    if positions is None:
        return None
    if not positions:
        raise AblationError("There is no position to ablate at; leave positions out for all.")
    return tuple(sorted({resolve_position(place, n_positions) for place in positions}))


def _rerun(run: Trace, edits: Sequence[Intervention]) -> Float[Tensor, " d_vocab"]:
    """The logits at the question's position with the ablation."""
    last = run.question.position == run.tokens.shape[1] - 1
    logits = run.model.run(run.tokens, (*run.interventions, *edits), last_logits_only=last)
    return logits[0, -1 if last else run.question.position].float()


def _changes(
    run: Trace, chosen: Chosen, values: Values, positions: Sequence[int] | None
) -> Float[Tensor, "draw d_model"]:
    """What changes in the last residual stream if nothing reacts to the ablation."""
    n_draws = max(len(value) for value in values.values())
    changes = torch.zeros(n_draws, run.model.cfg.d_model, dtype=torch.float64)
    if positions is None or run.question.position in positions:
        for place in chosen:
            changes += _written(run, place, chosen, values)
    return changes


def _written(
    run: Trace, place: Place, chosen: Chosen, values: Values
) -> Float[Tensor, "draw d_model"]:
    """What the parts at one place add to the residual stream instead, any post-norm frozen."""
    (site, layer), heads, here = place, chosen[place], run.question.position
    new = values[place]
    change = exact(new[:, here if new.shape[1] > 1 else 0]) - run.at(site, layer)
    if heads is None:
        return change
    weights = exact(run.model.W_O[layer][heads])
    written = torch.einsum("nhd,hdm->nm", change[:, heads], weights)
    norm = run.attention_norm(layer)
    return run.model.spec.layers[layer].attn_scale * (
        written if norm is None else norm.push(written)
    )


def _mean_value(run: Trace, rows: Float[Tensor, "draw d_vocab"]) -> float:
    return sum(question_value(run.question, row) for row in rows) / len(rows)
