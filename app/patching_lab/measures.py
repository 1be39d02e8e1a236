"""What lessons ask of the patching lab, each a pure function of the model and the lab's settings.

A pair is the settings' `prompt` (clean) and `corrupted`; `target` and `foil` as the lab has them:
without a word, what the model says after the one and after the other. `layer`, `at` and `head` are
the chosen ones unless they are named; `at` counts from 0, or from the end if negative. What moves
an answer is told as a share of the way from the run that is patched to the other one: 0 nothing,
1 all of it, in either direction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from app.lesson.measures import measure
from lens_core import HookedModel
from lens_core.interventions import patch
from lens_core.model.errors import TokenError, UnknownSiteError
from lens_core.patching import (
    Answers,
    PatchingError,
    PromptPair,
    as_metric,
    attribution_patching,
    prompt_pair,
    sweep,
)

# What the lab's target says when no word is named.
FINAL = "final answer"
HEADS = "heads"
ALL_POSITIONS = "all positions"
# Steps of the integrated gradient, as many as the lab takes.
IG_STEPS = 8
OF_HEADS = ("z", "q", "k", "v", "pattern")


def word_id(model: HookedModel, word: str) -> int:
    """The word's token inside a sentence, or failing that at its beginning."""
    try:
        return model.to_single_token(f" {word.strip()}")
    except TokenError:
        return model.to_single_token(word.strip())


def start_token(settings: Mapping[str, Any]) -> bool | None:
    """Whether prompts begin with the start token; None: as the model was trained."""
    bos = settings.get("bos")
    return bos.lower() == "true" if isinstance(bos, str) else bos


def pair_of(model: HookedModel, settings: Mapping[str, Any]) -> PromptPair:
    """The two prompts with their answers. Raises AlignmentError where they do not match."""
    texts = str(settings["prompt"]), str(settings["corrupted"])
    align: Literal["length", "pad"] = "pad" if settings.get("align") == "pad" else "length"
    bos = start_token(settings)
    bare = prompt_pair(model, *texts, 0, align=align, prepend_bos=bos)
    best = []
    for row, padding in zip((bare.clean, bare.corrupted), bare.padding, strict=True):
        logits = model.run(row[None, padding:], last_logits_only=True)[0, -1]
        best.append(logits.topk(2).indices.tolist())
    named = str(settings.get("target") or FINAL), str(settings.get("foil") or "").strip()
    answer = best[0][0] if named[0] == FINAL else word_id(model, named[0])
    other = next(token for token in best[1] if token != answer)
    foil = word_id(model, named[1]) if named[1] else other
    return prompt_pair(model, *texts, answer, foil, align=align, prepend_bos=bos)


def number(model: HookedModel, settings: Mapping[str, Any], name: str, given: int | None) -> int:
    """A layer or head as given, or the settings'. Raises UnknownSiteError where there is none."""
    value = int(settings.get(name) or 0) if given is None else given
    there = model.cfg.n_layers if name == "layer" else model.cfg.n_heads
    if not 0 <= value < there:
        raise UnknownSiteError(
            f"This is about {name} {value}, and {model.cfg.name} has {there}; choose another model."
        )
    return value


def place(pair: PromptPair, settings: Mapping[str, Any], at: int | None) -> int:
    """The position as given, or the settings', or the first token that differs."""
    chosen = settings.get("at") if at is None else at
    if chosen not in (None, ""):
        return int(chosen)
    return pair.differing[0] if pair.differing else -1


def named_heads(listed: str) -> list[tuple[int, int]]:
    """``L6H3 6.4`` as (layer, head)."""
    found = re.findall(r"L?(\d+)[.H](\d+)", listed, flags=re.IGNORECASE)
    return [(int(layer), int(head)) for layer, head in found]


def share(found: Any, direction: str) -> Any:
    """[*axes] of a sweep of one pair: how far each patch moved the run towards the other one."""
    values = found.normalised[..., 0]
    return values if direction == "denoise" else 1 - values


def one_cell(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    site: str | None,
    layer: int | None,
    at: int | None,
    head: int | None,
    direction: str | None,
    metric: Any,
    patch_with: str,
) -> Any:
    """The sweep of a single place: that of the chosen view, or of the site that is named."""
    pair = pair_of(model, settings)
    of_head = settings.get("view") == HEADS
    if site is None:
        site = str((settings.get("part") if of_head else settings.get("site")) or "resid_pre")
    everywhere = site in OF_HEADS and at is None and settings.get("over") != "the chosen position"
    return sweep(
        model,
        pair,
        site,
        layers=[number(model, settings, "layer", layer)],
        positions="all" if everywhere else [place(pair, settings, at)],
        heads=[number(model, settings, "head", head)] if site in OF_HEADS else None,
        patch_with=patch_with,  # type: ignore[arg-type]
        direction=direction or str(settings.get("direction") or "denoise"),  # type: ignore[arg-type]
        metric=metric or str(settings.get("metric") or "logit_difference"),
    )


@measure("moves")
def moves(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    site: str | None = None,
    layer: int | None = None,
    at: int | None = None,
    head: int | None = None,
    direction: str | None = None,
    metric: str | None = None,
    patch_with: str = "other run",
) -> float:
    """How far one patch moves the answer towards the other run's, as a share of the way.

    A head's part is patched at all positions unless one is named or chosen."""
    direction = direction or str(settings.get("direction") or "denoise")
    found = one_cell(
        model,
        settings,
        site=site,
        layer=layer,
        at=at,
        head=head,
        direction=direction,
        metric=metric,
        patch_with=patch_with,
    )
    return float(share(found, direction).ravel()[0])


@measure("directions_disagree")
def directions_disagree(
    model: HookedModel, settings: Mapping[str, Any], *, metric: str | None = None
) -> float:
    """How far apart the shares are that the chosen patch moves when denoising and when noising."""
    both = [moves(model, settings, direction=d, metric=metric) for d in ("denoise", "noise")]
    return abs(both[0] - both[1])


@measure("clean_guess")
def clean_guess(model: HookedModel, settings: Mapping[str, Any]) -> str:
    """The model's best guess after the clean prompt."""
    logits = last_logits(model, pair_of(model, settings), (), "noise")
    return str(model.to_string([int(logits.argmax())]))


@measure("tokens_differing")
def tokens_differing(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """In how many tokens the two prompts differ."""
    return len(pair_of(model, settings).differing)


@measure("numbers_moved")
def numbers_moved(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many numbers the chosen patch overwrites."""
    n_tokens = len(pair_of(model, settings).clean)
    if settings.get("view") != HEADS:
        return model.cfg.d_model
    size = n_tokens if settings.get("part") == "pattern" else model.cfg.d_head
    return size * (1 if settings.get("over") == "the chosen position" else n_tokens)


@measure("hand_over")
def hand_over(
    model: HookedModel, settings: Mapping[str, Any], *, site: str = "resid_pre"
) -> int | None:
    """The first layer at which the last token alone moves more than half; None if there is none."""
    pair = pair_of(model, settings)
    found = share(sweep(model, pair, site, positions=[-1]), "denoise")[:, 0]
    above = [layer for layer, value in enumerate(found) if value > 0.5]
    return above[0] if above else None


@measure("heads_that_move")
def heads_that_move(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    above: float = 0.1,
    direction: str = "denoise",
) -> int:
    """How many heads' outputs, patched one at a time at all positions, move more than that."""
    pair = pair_of(model, settings)
    found = sweep(model, pair, "z", positions="all", direction=direction)  # type: ignore[arg-type]
    return int((share(found, direction) > above).sum())


def last_logits(
    model: HookedModel, pair: PromptPair, edits: Sequence[Any], direction: str
) -> Tensor:
    """[1, d_vocab] behind the last token of the run that is patched."""
    if not pair.same_length or any(pair.padding):
        raise PatchingError("This is asked of two prompts of one length; make them equally long.")
    row = pair.corrupted if direction == "denoise" else pair.clean
    return model.run(row[None], edits, last_logits_only=True)[:, -1]


def way_moved(
    model: HookedModel, pair: PromptPair, edits: Sequence[Any], direction: str, metric: str
) -> float:
    """How far the edits together move the answer, as a share of the way."""
    rated = as_metric(metric)
    clean = last_logits(model, pair, (), "noise")
    corrupted = last_logits(model, pair, (), "denoise")
    foil = -1 if pair.foil is None else pair.foil
    asks = Answers(torch.tensor([pair.answer]), torch.tensor([foil]), clean)
    ends = [float(rated(logits, asks)) for logits in (corrupted, clean)]
    start, goal = ends if direction == "denoise" else reversed(ends)
    reached = float(rated(last_logits(model, pair, edits, direction), asks))
    return (reached - start) / (goal - start)


def one_edit(
    model: HookedModel, pair: PromptPair, source: Any, site: str, layer: int, at: int
) -> Any:
    """The patch of one position from a run of the source, a row of as many tokens."""
    if len(source) != len(pair.clean):
        raise PatchingError(
            f"The other text has {len(source)} tokens and the prompt {len(pair.clean)}; make them "
            "equally long."
        )
    _, cache = model.run_with_cache(source[None], names=[(site, layer)])
    return patch(site, layer, cache, positions=[at % len(source)])


@measure("patched_guess")
def patched_guess(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    site: str | None = None,
    layer: int | None = None,
    at: int | None = None,
    direction: str | None = None,
) -> str:
    """The model's best guess with one activation of the other run at one position."""
    pair = pair_of(model, settings)
    direction = direction or str(settings.get("direction") or "denoise")
    source = pair.clean if direction == "denoise" else pair.corrupted
    where = site or str(settings.get("site")), number(model, settings, "layer", layer)
    edit = one_edit(model, pair, source, *where, place(pair, settings, at))
    logits = last_logits(model, pair, [edit], direction)
    return str(model.to_string([int(logits.argmax())]))


@measure("move_together")
def move_together(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    heads: str,
    direction: str = "denoise",
    metric: str = "logit_difference",
) -> float:
    """How far several heads' outputs move the answer when patched at once, as a share."""
    pair = pair_of(model, settings)
    source = pair.clean if direction == "denoise" else pair.corrupted
    parts = [
        (number(model, settings, "layer", layer), number(model, settings, "head", head))
        for layer, head in named_heads(heads)
    ]
    _, cache = model.run_with_cache(source[None], names=[("z", layer) for layer, _ in parts])
    edits = [patch("z", layer, cache, heads=[head]) for layer, head in parts]
    return way_moved(model, pair, edits, direction, metric)


@measure("moves_from")
def moves_from(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    text: str,
    layer: int,
    at: int,
    site: str = "resid_pre",
    metric: str = "logit_difference",
) -> float:
    """The control: how far an activation of a third text moves the corrupted run, as a share."""
    pair = pair_of(model, settings)
    source = model.to_tokens(text, prepend_bos=start_token(settings))[0]
    edit = one_edit(model, pair, source, site, number(model, settings, "layer", layer), at)
    return way_moved(model, pair, [edit], "denoise", metric)


def estimates(
    model: HookedModel, settings: Mapping[str, Any], site: str | None, steps: int | None
) -> tuple[Any, Any]:
    """The map of shares by real patches, and the same map estimated from gradients."""
    site = site or str(settings.get("site") or "resid_pre")
    if steps is None:
        steps = IG_STEPS if settings.get("gradient") == "integrated" else 0
    asks: dict[str, Any] = {
        "positions": "all" if site in OF_HEADS else "each",
        "direction": str(settings.get("direction") or "denoise"),
    }
    pair = pair_of(model, settings)
    estimate = attribution_patching(model, pair, site, ig_steps=steps, **asks)
    real = sweep(model, pair, site, **asks)
    return tuple(share(found, asks["direction"]) for found in (real, estimate))


def correlation_of(real: Any, estimate: Any) -> float:
    """Pearson's, over all cells."""
    both = torch.tensor([real.ravel().tolist(), estimate.ravel().tolist()])
    return float(torch.corrcoef(both)[0, 1])


@measure("estimate_correlates")
def estimate_correlates(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    site: str | None = None,
    steps: int | None = None,
) -> float:
    """The correlation of estimated with real patches over a map, in logit difference."""
    return correlation_of(*estimates(model, settings, site, steps))


@measure("estimated")
def estimated(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int,
    at: int,
    site: str | None = None,
    steps: int | None = None,
) -> float:
    """What the gradient says of one patch, as a share of the way in logit difference."""
    _, estimate = estimates(model, settings, site, steps)
    return float(estimate[number(model, settings, "layer", layer), at])


@measure("estimate_misses")
def estimate_misses(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int,
    at: int,
    site: str | None = None,
    steps: int | None = None,
) -> float:
    """How far the estimate of one patch is from the real one, as a share of the way."""
    real, estimate = estimates(model, settings, site, steps)
    place_of = number(model, settings, "layer", layer), at
    return float(abs(real[place_of] - estimate[place_of]))
