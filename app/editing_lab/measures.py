"""What lessons ask of the editing lab, each a pure function of the model and the lab's settings.

Every measure makes the settings' edit of `prompt`, `subject` and `new` and asks the edited model. A
setting that is None is the preset's. `method` is r-ROME, ROME, p-ROME, FT or FT+L; shares and
probabilities are from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from app.lesson.measures import measure
from lens_core import HookedModel
from lens_core.editing import (
    Edit,
    EditRequest,
    fine_tune,
    in_context,
    predicted_bleed,
    preset,
    rome,
)
from lens_core.editing.evaluate import Scores, UnrelatedText, record_of, score
from lens_core.interventions import low_rank
from lens_core.model.errors import TokenError

# The lab's names of the variants of ROME, as the library has them.
VARIANTS = {"r-ROME": "r-rome", "ROME": "original", "p-ROME": "p-rome"}
READ_ON = 6


def word_id(model: HookedModel, word: str) -> int:
    """The word's token inside a sentence, or failing that at its beginning."""
    try:
        return model.to_single_token(f" {word.strip()}")
    except TokenError:
        return model.to_single_token(word.strip())


def says_now(model: HookedModel, prompt: str) -> str:
    """The model's own next words, as far as the first stop."""
    tokens = model.to_tokens(prompt)
    text = model.to_string(model.generate(tokens, READ_ON)[0, tokens.shape[1] :])
    for stop in ".,;\n":
        text = text.split(stop)[0]
    return text.strip()


def request_of(model: HookedModel, settings: Mapping[str, Any]) -> EditRequest:
    """The settings' edit; the old answer is what the model says now."""
    prompt, new = str(settings["prompt"]), str(settings["new"])
    now = str(settings.get("old") or says_now(model, prompt))
    return EditRequest(prompt, str(settings["subject"]), new, "" if now == new else now)


def changed(start: Any, settings: Mapping[str, Any]) -> Any:
    """A method's settings with the lab's, where it has such a setting and the lab says one."""
    given = {
        "layer": settings.get("edit_layer"),
        "steps": settings.get("steps"),
        "kl_factor": settings.get("kl_factor"),
        "clamp": settings.get("clamp"),
        "kl_prompts": settings.get("kl_prompts"),
        "use_covariance": settings.get("covariance"),
        "seed": settings.get("edit_seed"),
    }
    whole = ("layer", "steps", "seed")
    wanted = {
        name: int(value) if name in whole else value
        for name, value in given.items()
        if value not in (None, "") and hasattr(start, name)
    }
    for name in ("kl_factor", "clamp"):
        if name in wanted:
            wanted[name] = float(wanted[name])
    return replace(start, **wanted)


@lru_cache(maxsize=16)
def make(model: HookedModel, method: str, request: EditRequest, chosen: Any) -> Edit:
    """The edit; the last few are kept, since a lesson asks much of each."""
    if method == "in context":
        return in_context(model, request)
    if method in VARIANTS:
        return rome(model, request, chosen)
    return fine_tune(model, request, chosen)


def edit_of(model: HookedModel, settings: Mapping[str, Any], method: str | None = None) -> Edit:
    """The edit that the settings ask for."""
    method = method or str(settings.get("method") or "r-ROME")
    request = request_of(model, settings)
    if method == "in context":
        return make(model, method, request, None)
    name = {"FT": "ft", "FT+L": "ft+l"}.get(method, "rome")
    start = preset(model, name).settings
    if method in VARIANTS:
        start = replace(start, variant=VARIANTS[method])
    return make(model, method, request, changed(start, settings))


@lru_cache(maxsize=1)
def ordinary_text(model: HookedModel) -> UnrelatedText:
    """Text of the world that has nothing to do with the edit."""
    return UnrelatedText.of(model, n_rows=16)


@lru_cache(maxsize=16)
def scored(model: HookedModel, edit: Edit, text: bool) -> Scores:
    """Both models asked everything that judges the edit."""
    record = record_of(model, edit.requests[0])
    return score(model, edit, record, unrelated=ordinary_text(model) if text else None)


@measure("p_word_before")
def p_word_before(model: HookedModel, settings: Mapping[str, Any], *, word: str) -> float:
    """Probability of a word after the prompt, in the model as it was loaded."""
    logits = model.run(str(settings["prompt"]), last_logits_only=True)[0, -1]
    return float(logits.softmax(-1)[word_id(model, word)])


@measure("p_word_edited")
def p_word_edited(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    word: str | None = None,
    ask: str | None = None,
    method: str | None = None,
) -> float:
    """Probability of a word, the new answer unless named, in the edited model, after the edit's
    prompt or after ``ask``."""
    edit = edit_of(model, settings, method)
    text = edit.prefix + (ask or str(settings["prompt"]))
    logits = model.run(text, edit.interventions, last_logits_only=True)[0, -1]
    return float(logits.softmax(-1)[word_id(model, word or str(settings["new"]))])


@measure("edited_says")
def edited_says(model: HookedModel, settings: Mapping[str, Any], *, ask: str | None = None) -> str:
    """What the edited model answers, in its own words."""
    edit = edit_of(model, settings)
    view = model.edited([edit]) if edit.interventions else model
    return says_now(view, edit.prefix + (ask or str(settings["prompt"])))


@measure("edit_score")
def edit_score(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    key: str,
    method: str | None = None,
    baseline: bool = False,
) -> float:
    """One line of the scoreboard; ``baseline``: of the model as it was loaded."""
    found = scored(model, edit_of(model, settings, method), False).rate(key)
    return float(found.before if baseline else found.after)


@measure("perplexity_change")
def perplexity_change(model: HookedModel, settings: Mapping[str, Any]) -> float:
    """Perplexity of unrelated text after the edit, over that before; 1 is no change."""
    effect = scored(model, edit_of(model, settings), True).unrelated
    return float("nan") if effect is None else float(effect.ratio)


@measure("edit_rank")
def edit_rank(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """Rank of what the edit adds to the matrix."""
    tensors = [term.tensors for term in edit_of(model, settings).terms]
    delta = sum(t["left"].double() @ t["right"].double() for t in tensors)
    return int(torch.linalg.matrix_rank(delta, rtol=1e-5))


@measure("edit_number")
def edit_number(
    model: HookedModel, settings: Mapping[str, Any], *, of: str, method: str | None = None
) -> float:
    """A number of the edit: denominator, leverage, write_fraction, or share_of_weight."""
    found = edit_of(model, settings, method).trace.diagnostics[0]
    if of == "share_of_weight":
        return found.delta_norm / found.weight_norm
    return float(getattr(found, of))


@measure("edit_steps")
def edit_steps(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many steps the search for the value took."""
    return max(step.step for step in edit_of(model, settings).trace.steps)


@measure("bleeds_into")
def bleeds_into(model: HookedModel, settings: Mapping[str, Any], *, ask: str) -> float:
    """The share of the edit that another prompt is foretold to get, 1 for the edited one."""
    return float(predicted_bleed(model, edit_of(model, settings), ask).strongest()[0])


@measure("p_written_for")
def p_written_for(
    model: HookedModel, settings: Mapping[str, Any], *, key: str = "own", seed: int = 0
) -> float:
    """Probability of the new answer when the value is written for the subject's key, or, with
    ``key: random``, at the same strength for a random one."""
    edit = edit_of(model, settings)
    (term,) = edit.terms
    left, right = term.tensors["left"], term.tensors["right"]
    if key == "random":
        drawn = torch.randn(left.shape, generator=torch.Generator().manual_seed(seed)).to(left)
        left = drawn * (left.norm() / drawn.norm())
    written = low_rank("mlp_out", edit.layers[0], left, right)
    logits = model.run(str(settings["prompt"]), [written], last_logits_only=True)[0, -1]
    return float(logits.softmax(-1)[word_id(model, str(settings["new"]))])


@measure("traced_at")
def traced_at(model: HookedModel, settings: Mapping[str, Any], *, layer: int) -> float:
    """What causal tracing says of one layer's MLPs at the subject's last token, in probability."""
    from lens_core.tracing import GaussianNoise, causal_trace, default_window

    found = causal_trace(
        model,
        str(settings["prompt"]),
        str(settings["subject"]),
        kinds=["mlp"],
        corruption=GaussianNoise(3.0, samples=4, seed=0),
        window=default_window(model.cfg.n_layers),
    )
    return float(found.indirect_effect("mlp")[layer, found.subject[1]])
