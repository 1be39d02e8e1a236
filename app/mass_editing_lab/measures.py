"""What lessons ask of mass editing, each a pure function of the model and the lab's settings.

The facts are the world's, by `seed`; `n` is how many are written. `lam`, `first_layer`,
`last_layer` and `edit_layer` are the settings' unless named, None the model's own. The search for
values is shorter than the lab's, so that a lesson need not wait: shares come out a little lower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from app.lesson.measures import measure
from lens_core import HookedModel
from lens_core.editing import Edit, EditRequest, memit, preset, rome
from lens_core.editing.evaluate import (
    EvaluationRecord,
    Question,
    Reply,
    Sizes,
    UnrelatedText,
    ask,
    records,
    unrelated_effect,
)
from lens_core.editing.evaluate.metrics import rate
from lens_core.editing.keys import subject_states
from lens_core.editing.spread import covariance_of
from lens_core.interventions import low_rank
from lens_core.tracing import causal_trace

N_FACTS, STEPS, CONTEXTS, RATE = 20, 8, 2, 0.5
# Questions a fact: paraphrases, after a story, neighbours, other subjects, near ones, wordings,
# followers of two hops, subjects of reference texts.
ASKED = (2, 0, 4, 0, 0, 2, 1, 0)
# Writing at single layers: of how many facts, and so firmly that nothing is held back.
N_LOCATED, SMALL_LAMBDA = 6, 1.0
EIFFEL = ("The Eiffel Tower is in the city of", "The Eiffel Tower")


@lru_cache(maxsize=4)
def facts_of(model: HookedModel, n: int, seed: int) -> tuple[EvaluationRecord, ...]:
    """Facts that the model knows, each with another answer to be written."""
    return records(model, n, seed, "test", sizes=Sizes(*ASKED))


def layers_of(model: HookedModel, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """MEMIT's layers: the settings', or the model's own."""
    own = preset(model, "memit").settings.layers
    first, last = settings.get("first_layer"), settings.get("last_layer")
    start = own[0] if first in (None, "") else int(first)
    end = own[-1] if last in (None, "") else int(last)
    return tuple(range(start, max(start, end) + 1))


def lambda_of(model: HookedModel, settings: Mapping[str, Any], lam: float | None) -> float:
    """MEMIT's lambda: as named, the settings', or the model's own."""
    chosen = settings.get("lam") if lam is None else lam
    if chosen in (None, ""):
        chosen = preset(model, "memit").settings.covariance_weight * model.W_out[0].shape[0]
    return float(chosen)


@lru_cache(maxsize=8)
def by_memit(
    model: HookedModel, requests: tuple[EditRequest, ...], layers: tuple[int, ...], lam: float
) -> Edit:
    """The facts written at once."""
    own = preset(model, "memit").settings
    chosen = replace(
        own,
        layers=layers,
        covariance_weight=lam / model.W_out[0].shape[0],
        steps=STEPS,
        n_contexts=CONTEXTS,
        lr=RATE,
    )
    return memit(model, requests, chosen)


@lru_cache(maxsize=4)
def by_rome(
    model: HookedModel, requests: tuple[EditRequest, ...], layer: int | None, variant: str
) -> Edit:
    """The facts written one after another."""
    own = preset(model, "rome").settings
    chosen = replace(
        own,
        layer=own.layer if layer is None else layer,
        variant=variant,
        steps=STEPS,
        n_contexts=CONTEXTS,
        lr=RATE,
    )
    return rome(model, requests, chosen)


def written(
    model: HookedModel, settings: Mapping[str, Any], method: str, n: int, lam: float | None
) -> Edit | None:
    """The first ``n`` facts written by a method; None for "unedited"."""
    seed = int(settings.get("seed") or 0)
    requests = tuple(r.request for r in facts_of(model, n, seed))
    if method == "unedited":
        return None
    if method == "memit":
        return by_memit(
            model, requests, layers_of(model, settings), lambda_of(model, settings, lam)
        )
    layer = settings.get("edit_layer")
    chosen = None if layer in (None, "") else int(layer)
    return by_rome(model, requests, chosen, method)


def with_other_keys(model: HookedModel, edit: Edit) -> list[Any]:
    """The same values, each written for another fact's key."""
    out = []
    for term in edit.terms:
        left, right = term.tensors["left"], term.tensors["right"]
        out.append(low_rank(term.site, int(term.layer or 0), left, right.roll(1, 0)))
    return out


@lru_cache(maxsize=64)
def share(
    model: HookedModel, edit: Edit | None, n: int, seed: int, key: str, shuffled: bool
) -> float:
    """One score over all the facts; neighbours that are edited themselves are left out."""
    # Imported here: a notebook takes functions from the top of the module, and plain constants.
    from lens_core.editing.evaluate import METRICS

    facts = facts_of(model, n, seed)
    changed = {(r.subject, r.request.relation) for r in facts}
    group = METRICS[key].group
    asked = [
        q
        for r in facts
        for g, q in r.asked
        if g == group
        and (g == "edit" or (q.subject, q.relation) not in changed or g != "neighbour")
    ]
    view: Any = edit
    if edit is not None and shuffled:
        view = replace(edit, terms=tuple(with_other_keys(model, edit)))
    before, after = ask(model, asked), ask(model, asked, view)
    replies = [Reply(group, q, b, a) for q, b, a in zip(asked, before, after, strict=True)]
    return rate(replies, METRICS[key]).after


@measure("mass_score")
def mass_score(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    score: str = "efficacy",
    method: str = "memit",
    n: int = N_FACTS,
    lam: float | None = None,
    shuffled: bool = False,
) -> float:
    """A share of the questions about many edits: efficacy, efficacy_exact (in the model's own
    words), paraphrase, neighbourhood, two_hop_exact. ``shuffled``: every value is written for
    another fact's key. ``method``: memit, r-rome, original, or unedited."""
    edit = written(model, settings, method, n, lam)
    return float(share(model, edit, n, int(settings.get("seed") or 0), score, shuffled))


@measure("mass_perplexity")
def mass_perplexity(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    method: str = "memit",
    n: int = N_FACTS,
    lam: float | None = None,
) -> float:
    """Perplexity of ordinary text after many edits, in multiples of the unedited model's."""
    edit = written(model, settings, method, n, lam)
    return float(unrelated_effect(model, edit, UnrelatedText.of(model, n_rows=16)).ratio)


@measure("write_fraction")
def write_fraction(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    lam: float | None = None,
    layer: int | None = None,
) -> float:
    """The share of what is wanted that one layer writes for the Eiffel Tower alone."""
    chosen = layers_of(model, settings)[-1] if layer is None else layer
    located = EditRequest(*EIFFEL, "Rome").tokenize(model)
    key = subject_states(model, [located], [("mlp_post", chosen)]).bare("mlp_post", chosen)
    own = preset(model, "memit").settings
    c = covariance_of(model, [chosen], None, own.names_weight)
    rho = float(c.leverage(chosen, key, ridge=own.ridge)) / lambda_of(model, settings, lam)
    return rho / (1 + rho)


def two_answers(
    model: HookedModel, settings: Mapping[str, Any], method: str, first: str, second: str
) -> Edit:
    """The Eiffel Tower is given two cities, in this order."""
    requests = tuple(EditRequest(*EIFFEL, city, "Paris") for city in (first, second))
    if method == "memit":
        lam = lambda_of(model, settings, None)
        return by_memit(model, requests, layers_of(model, settings), lam)
    return by_rome(model, requests, None, method)


@measure("contradiction_says")
def contradiction_says(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    method: str = "memit",
    first: str = "Rome",
    second: str = "London",
) -> str:
    """Where the Eiffel Tower is, after it was given two cities."""
    edit = two_answers(model, settings, method, first, second)
    logits = model.run(EIFFEL[0], edit.interventions, last_logits_only=True)[0, -1]
    return str(model.to_string(logits.argmax()[None]).strip())


@measure("contradiction_outcome")
def contradiction_outcome(
    model: HookedModel, settings: Mapping[str, Any], *, method: str = "memit"
) -> str:
    """Which of the two cities it is then: Rome, London, still Paris, or neither of the three."""
    said = contradiction_says(model, settings, method=method)
    return said if said in ("Rome", "London", "Paris") else "neither of the three"


@measure("contradiction_p")
def contradiction_p(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    city: str,
    method: str = "memit",
    first: str = "Rome",
    second: str = "London",
) -> float:
    """Probability of a city for the Eiffel Tower, after it was given two."""
    edit = two_answers(model, settings, method, first, second)
    return float(ask(model, [Question(EIFFEL[0], city)], edit)[0].p_answer)


@measure("n_layers_written")
def n_layers_written(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many layers MEMIT writes to."""
    return len(layers_of(model, settings))


@measure("written_at")
def written_at(model: HookedModel, settings: Mapping[str, Any], *, layer: int) -> float:
    """How far a few facts take hold when one layer alone is written to: of the room that the new
    answer's probability had, the share that it took."""
    facts = facts_of(model, N_FACTS, int(settings.get("seed") or 0))[:N_LOCATED]
    edit = by_memit(model, tuple(r.request for r in facts), (layer,), SMALL_LAMBDA)
    questions = [r.edit_question for r in facts]
    before, after = ask(model, questions), ask(model, questions, edit)
    shares = [
        (a.p_answer - b.p_answer) / (1 - b.p_answer) for a, b in zip(after, before, strict=True)
    ]
    return sum(shares) / len(shares)


@lru_cache(maxsize=2)
def traced(model: HookedModel, seed: int) -> Any:
    """The mean indirect effect of the MLPs at the subject's last token, by layer."""
    total = torch.zeros(model.cfg.n_layers, dtype=torch.float64)
    for record in facts_of(model, N_FACTS, seed)[:N_LOCATED]:
        at = record.request.tokenize(model)
        span = (at.subject_start, at.subject_end)
        found = causal_trace(model, at.tokens, span, at.true_ids[0], kinds=["mlp"])
        total += torch.tensor(found.indirect_effect("mlp")[:, at.subject_end])
    return total / N_LOCATED


@measure("traced_at_layer")
def traced_at_layer(model: HookedModel, settings: Mapping[str, Any], *, layer: int) -> float:
    """What tracing says of a layer, for the same few facts: the probability that comes back."""
    return float(traced(model, int(settings.get("seed") or 0))[layer])
