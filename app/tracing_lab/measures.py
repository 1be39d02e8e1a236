"""What lessons ask of the tracing lab, each a pure function of the model and the lab's settings.

`prompt`, `subject` and `target` are the settings' unless named; without a word the target is what
the model says. `layer` and `at` are the chosen cell unless named; `at` counts from 0, or from the
end if negative, and is the subject's last token where none is chosen. Effects are in the unit of
the settings' metric, for the probability between 0 and 1, and means over the draws of the noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from app.lesson.measures import measure
from lens_core import HookedModel
from lens_core.model.errors import TokenError, UnknownSiteError
from lens_core.patching import Answers, as_metric
from lens_core.tracing import (
    ROLES,
    GaussianNoise,
    TokenReplacement,
    TracePrompt,
    average_trace,
    causal_trace,
    embedding_std,
    locate,
)
from lens_core.tracing.corruption import corrupt
from lens_core.world.datasets import known_facts

# What the lab's target says when no word is named.
FINAL = "final answer"
# Few, so that a lesson need not wait; the lab averages over as many as one likes.
N_FACTS, N_DRAWS = 8, 3


def word_id(model: HookedModel, word: str) -> int:
    """The word's token inside a sentence, or failing that at its beginning."""
    try:
        return model.to_single_token(f" {word.strip()}")
    except TokenError:
        return model.to_single_token(word.strip())


def answers_of(model: HookedModel, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Target and foil as token ids: without a word, what the model says, and what it says next."""
    logits = model.run(str(settings["prompt"]), last_logits_only=True)[0, -1]
    best, runner_up = logits.topk(2).indices.tolist()
    target = str(settings.get("target") or FINAL)
    foil = str(settings.get("foil") or "").strip()
    answer = best if target == FINAL else word_id(model, target)
    return answer, word_id(model, foil) if foil else (runner_up if answer == best else best)


def corruption_of(
    model: HookedModel, settings: Mapping[str, Any], sigmas: float | None
) -> GaussianNoise | TokenReplacement:
    """The lab's corruption; of noise, the size is that for the settings' subject."""
    if settings.get("corruption") == "other subject" and sigmas is None:
        other = str(settings["other_subject"]).strip()
        first_word = str(settings["prompt"]).startswith(str(settings["subject"]))
        return TokenReplacement((other if first_word else f" {other}",))
    tokens, (first, last) = locate(model, str(settings["prompt"]), str(settings["subject"]))
    sigma = embedding_std(model, [tokens[0, first : last + 1]])
    return GaussianNoise(
        std=(float(settings.get("sigmas") or 3) if sigmas is None else sigmas) * sigma,
        samples=int(settings.get("samples") or 10),
        seed=int(settings.get("seed") or 0),
    )


def traced(
    model: HookedModel,
    settings: Mapping[str, Any],
    kind: str | None,
    window: int | None = None,
    sigmas: float | None = None,
    direction: str | None = None,
) -> tuple[Any, Any]:
    """The trace of one kind of map, and its indirect effects [layer, position]."""
    kind = kind or str(settings.get("kind") or "state")
    answer, foil = answers_of(model, settings)
    metric = str(settings.get("metric") or "probability")
    if window is None and settings.get("window"):
        window = int(settings["window"])
    found = causal_trace(
        model,
        str(settings["prompt"]),
        str(settings["subject"]),
        answer,
        foil if metric == "logit_difference" else None,
        kinds=[kind],  # type: ignore[list-item]
        corruption=corruption_of(model, settings, sigmas),
        window=window,
        direction=direction or str(settings.get("direction") or "denoise"),  # type: ignore[arg-type]
        metric=metric,
    )
    return found, found.indirect_effect(kind)  # type: ignore[arg-type]


def row_of(model: HookedModel, settings: Mapping[str, Any], layer: int | None) -> int:
    """The layer as named, or the chosen one. Raises UnknownSiteError where there is none."""
    layer = int(settings.get("layer") or 0) if layer is None else layer
    if not 0 <= layer < model.cfg.n_layers:
        raise UnknownSiteError(
            f"This is about layer {layer}, and {model.cfg.name} has {model.cfg.n_layers}; choose "
            "another model."
        )
    return layer


@measure("spoiling_costs")
def spoiling_costs(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    words: str | None = None,
    sigmas: float | None = None,
) -> float:
    """What the answer loses when the subject, or other words, get the subject's noise: the total
    effect."""
    prompt, subject = str(settings["prompt"]), str(settings["subject"])
    tokens, span = locate(model, prompt, subject if words is None else words)
    spoilt = corrupt(model, tokens, span, corruption_of(model, settings, sigmas))
    answer, foil = answers_of(model, settings)
    clean = model.run(tokens, last_logits_only=True)[:, -1]
    after = model.run(spoilt.tokens, spoilt.interventions, last_logits_only=True)[:, -1]
    rated = as_metric(str(settings.get("metric") or "probability"))

    def mean(logits: torch.Tensor) -> float:
        right, wrong = (torch.full((len(logits),), index) for index in (answer, foil))
        return float(rated(logits, Answers(right, wrong, clean.expand_as(logits))).mean())

    return mean(clean) - mean(after)


@measure("subject_tokens")
def subject_tokens(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many tokens the subject has."""
    _, (first, last) = locate(model, str(settings["prompt"]), str(settings["subject"]))
    return last + 1 - first


@measure("brings_back")
def brings_back(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    kind: str | None = None,
    layer: int | None = None,
    at: int | None = None,
    window: int | None = None,
    sigmas: float | None = None,
    direction: str | None = None,
) -> float:
    """The indirect effect: what restoring one cell of a map wins back of the answer.

    In the direction "noise", what spoiling it loses."""
    found, effect = traced(model, settings, kind, window, sigmas, direction)
    chosen = settings.get("at") if at is None else at
    position = found.subject[1] if chosen in (None, "") else int(chosen)
    return float(effect[row_of(model, settings, layer), position])


@measure("peak_token")
def peak_token(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    kind: str | None = None,
    layer: int | None = None,
) -> str:
    """The token at which restoring wins back most, in one layer."""
    found, effect = traced(model, settings, kind)
    return str(found.tokens[int(effect[row_of(model, settings, layer)].argmax())])


@measure("last_token_from")
def last_token_from(
    model: HookedModel, settings: Mapping[str, Any], *, kind: str | None = None
) -> int | None:
    """The first layer in which the last token alone wins back more than half of what was lost."""
    found, effect = traced(model, settings, kind)
    above = [i for i, value in enumerate(effect[:, -1]) if value > found.total_effect / 2]
    return above[0] if above else None


@measure("last_subject_share")
def last_subject_share(
    model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = None
) -> float:
    """What restoring the subject's last token wins back, as a share of what was lost."""
    found, effect = traced(model, settings, "state")
    return float(effect[row_of(model, settings, layer), found.subject[1]] / found.total_effect)


def averaged(model: HookedModel, settings: Mapping[str, Any]) -> Any:
    """The average over a few facts that the model knows, with subjects of several tokens."""
    seed = int(settings.get("seed") or 0)
    facts = known_facts(model.tokenizer, N_FACTS, multi_token_subject=True)
    noise = GaussianNoise(sigmas=float(settings.get("sigmas") or 3), samples=N_DRAWS, seed=seed)
    prompts = [TracePrompt.of_fact(model, fact) for fact in facts]
    return average_trace(model, prompts, kinds=["state"], corruption=noise, seed=seed)


@measure("peak_role")
def peak_role(model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = None) -> str:
    """The kind of token at which restoring wins back most in one layer, on average over facts."""
    effect = averaged(model, settings).indirect_effect["state"].mean
    row = effect[row_of(model, settings, layer)]
    return str(ROLES[int(torch.tensor(row).nan_to_num(-1).argmax())])


@measure("average_effect")
def average_effect(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    role: str,
    layer: int | None = None,
    bound: str = "mean",
) -> float:
    """What restoring wins back on average at a kind of token; ``bound: low`` and ``high`` are the
    ends of its 95% interval."""
    effect = getattr(averaged(model, settings).indirect_effect["state"], bound)
    return float(effect[row_of(model, settings, layer), ROLES.index(role)])
