"""What lessons ask of the attention lab, each a pure function of the model and the lab's settings.

``layer`` and ``head`` are the chosen head unless they are named; ``position`` counts from 0, or
from the end if negative. ``target`` and ``foil`` are the settings' unless named. ``listed`` names
parts as the lab's control does: ``6.3 7.1 mlp0``. ``on`` names a model, such as a glass one, that
is asked in place of the visitor's. Effects are in logits, after minus before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from app.lesson.measures import measure
from lens_core import HookedModel
from lens_core.attention import composition_scores, head_scores, read_attention
from lens_core.attention.induction import induction_curve
from lens_core.attribution import (
    AblationError,
    ablate,
    direct_logit_attribution,
    intervention_effect,
    source_attribution,
)
from lens_core.interventions import zero
from lens_core.model.errors import TokenError, UnknownSiteError

# What the lab's target says when no word is named.
FINAL = "final answer"
N_SEQUENCES = 16


def asked(model: HookedModel, on: str | None) -> HookedModel:
    """The model by that name, or the visitor's where none is named."""
    return model if on in (None, model.cfg.name) else HookedModel.from_pretrained(str(on))


def token_ids(model: HookedModel, settings: Mapping[str, Any]) -> Any:
    """The prompt's tokens, with the start token or without as the lab's control has it."""
    bos = settings.get("bos")
    if isinstance(bos, str):
        bos = bos.lower() == "true"
    return model.to_tokens(str(settings["prompt"]), prepend_bos=bos)


def word_id(model: HookedModel, word: str) -> int:
    """The word's token inside a sentence, or failing that at its beginning."""
    try:
        return model.to_single_token(f" {word.strip()}")
    except TokenError:
        return model.to_single_token(word.strip())


def chosen(
    model: HookedModel, settings: Mapping[str, Any], layer: int | None, head: int | None
) -> tuple[int, int]:
    """Layer and head as named, or those of the settings. Raises UnknownSiteError."""
    layer = int(settings.get("layer") or 0) if layer is None else layer
    head = int(settings.get("head") or 0) if head is None else head
    if layer >= model.cfg.n_layers or head >= model.cfg.n_heads:
        raise UnknownSiteError(
            f"This is about L{layer}H{head}, and {model.cfg.name} has {model.cfg.n_layers} layers "
            f"of {model.cfg.n_heads} heads; choose another model at the left."
        )
    return layer, head


def named_parts(listed: str) -> list[tuple[int, Any]]:
    """``6.3 L7H1 mlp0 attn2`` as (layer, head or "mlp" or "attn"); AblationError for the rest."""
    parts: list[tuple[int, Any]] = []
    for name in re.split(r"[\s,;]+", listed.strip()):
        of_head = re.fullmatch(r"l?(\d+)[.h](\d+)", name.lower())
        whole = re.fullmatch(r"(mlp|attn)(\d+)", name.lower())
        if of_head:
            parts.append((int(of_head[1]), int(of_head[2])))
        elif whole:
            parts.append((int(whole[2]), "mlp" if whole[1] == "mlp" else "attn"))
        elif name:
            raise AblationError(f"{name!r} is no part; write 6.3 for a head or mlp0 for an MLP.")
    return parts


def question(
    model: HookedModel, settings: Mapping[str, Any], target: str | None, foil: str | None
) -> dict[str, Any]:
    """Target and foil as token ids: without a target the best guess, without a foil the next."""
    target = str(settings.get("target") or FINAL) if target is None else target
    foil = str(settings.get("foil") or "") if foil is None else foil
    logits = model.run(token_ids(model, settings), last_logits_only=True)[0, -1]
    target_id = int(logits.argmax()) if target == FINAL else word_id(model, target)
    best, runner_up = logits.topk(2).indices.tolist()
    if foil.strip():
        return {"target": target_id, "foil": word_id(model, foil)}
    return {"target": target_id, "foil": runner_up if target_id == best else best}


def attributed(
    model: HookedModel, settings: Mapping[str, Any], target: str | None, foil: str | None
) -> Any:
    """The direct attribution of the target's logit over the foil's, at the last token."""
    asks = question(model, settings, target, foil)
    return direct_logit_attribution(model, token_ids(model, settings), **asks)


def ablated(
    model: HookedModel,
    settings: Mapping[str, Any],
    listed: str | None,
    target: str | None = None,
    foil: str | None = None,
) -> Any:
    """The answer with and without the listed parts, zero in their place; the same if none is."""
    parts = named_parts(str(settings.get("listed") or "") if listed is None else listed)
    asks = question(model, settings, target, foil)
    tokens = token_ids(model, settings)
    if not parts:
        return intervention_effect(model, tokens, (), **asks)
    return ablate(model, tokens, parts, **asks)


@measure("attention_to")
def attention_to(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    word: str,
    layer: int | None = None,
    head: int | None = None,
    position: int = -1,
) -> float:
    """Share of a token's attention that a head gives to all places of a word, 0 to 1."""
    found = read_attention(model, token_ids(model, settings))
    row = found.pattern[(*chosen(model, settings, layer, head), position)]
    here = [text.strip() == word.strip() for text in found.tokens]
    return float(row[here].sum())


@measure("looks_at")
def looks_at(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int | None = None,
    head: int | None = None,
    position: int = -1,
) -> str:
    """The token that a head looks at most from a position."""
    found = read_attention(model, token_ids(model, settings))
    row = found.pattern[(*chosen(model, settings, layer, head), position)]
    return str(found.tokens[int(row.argmax())])


@measure("first_share")
def first_share(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int | None = None,
    head: int | None = None,
) -> float:
    """Share of a head's attention on the first token, mean over the tokens after it."""
    found = read_attention(model, token_ids(model, settings))
    layer, head = chosen(model, settings, layer, head)
    return float(found.pattern[layer, head, 1:, 0].mean())


@measure("heads_on_first")
def heads_on_first(model: HookedModel, settings: Mapping[str, Any], *, above: float = 0.5) -> float:
    """Share of all heads that give the first token more than ``above``, mean over tokens."""
    found = read_attention(model, token_ids(model, settings))
    return float((found.pattern[:, :, 1:, 0].mean(-1) > above).mean())


@measure("head_varies")
def head_varies(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int | None = None,
    head: int | None = None,
) -> float:
    """How much what a head writes differs from token to token: the mean distance from its mean,
    relative to the length of that mean. The first token is left out."""
    layer, head = chosen(model, settings, layer, head)
    _, cache = model.run_with_cache(token_ids(model, settings), names=[("head_out", layer)])
    written = cache["head_out", layer][0, 1:, head].float()
    return float((written - written.mean(0)).norm(dim=-1).mean() / written.mean(0).norm())


@measure("head_score")
def head_score(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    score: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    on: str | None = None,
) -> float:
    """A head's score on repeated random tokens; `lens_core.attention` says what each score is."""
    model = asked(model, on)
    layer, head = chosen(model, settings, layer, head)
    score = str(settings.get("score") or "induction") if score is None else score
    found = head_scores(model, names=[score], n_sequences=N_SEQUENCES, control=False)
    return float(found[score].value[layer, head])


@measure("best_score")
def best_score(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    score: str,
    weights: str = "trained",
    on: str | None = None,
) -> float:
    """The highest score of any head; ``weights: random`` asks a twin that was never trained."""
    found = head_scores(
        asked(model, on),
        names=[score],
        n_sequences=N_SEQUENCES,
        control=weights == "random",
    )[score]
    value = found.control if weights == "random" else found.value
    return 0.0 if value is None else float(value.max())


@measure("copy_loss")
def copy_loss(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    copy: int,
    listed: str = "",
    on: str | None = None,
) -> float:
    """Loss per token on the first or second copy of random tokens without the listed parts, nats.

    The first token of each copy is left out."""
    parts = [
        zero(f"{which}_out", layer) if isinstance(which, str) else zero("z", layer, heads=[which])
        for layer, which in named_parts(listed)
    ]
    curve = induction_curve(
        asked(model, on), n_sequences=N_SEQUENCES, interventions=parts, n_bootstrap=0
    )
    return (
        curve.before.copy_mean(copy).value
        if curve.after is None
        else curve.after.copy_mean(copy).value
    )


@measure("copy_rise")
def copy_rise(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    copy: int,
    listed: str | None = None,
    on: str | None = None,
) -> float:
    """By how many nats a copy's loss rises without the listed heads."""
    listed = str(settings.get("listed") or "") if listed is None else listed
    without = copy_loss(model, settings, copy=copy, listed=listed, on=on)
    return without - copy_loss(model, settings, copy=copy, on=on)


@measure("first_copy_rise")
def first_copy_rise(model: HookedModel, settings: Mapping[str, Any]) -> float:
    """By how many nats the first copy's loss rises without the heads that the lab lists."""
    return copy_rise(model, settings, copy=1)


@measure("second_copy_rise")
def second_copy_rise(model: HookedModel, settings: Mapping[str, Any]) -> float:
    """By how many nats the second copy's loss rises without the heads that the lab lists."""
    return copy_rise(model, settings, copy=2)


@measure("parts_listed")
def parts_listed(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many parts are listed to be taken away."""
    return len(set(named_parts(str(settings.get("listed") or ""))))


@measure("whole_parts_listed")
def whole_parts_listed(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many of the listed parts are MLPs or whole attentions."""
    parts = set(named_parts(str(settings.get("listed") or "")))
    return sum(isinstance(which, str) for _, which in parts)


@measure("composes")
def composes(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    kind: Literal["q", "k", "v"],
    first: str,
    second: str,
    on: str | None = None,
) -> float:
    """How far a head's output reaches another's queries, keys or values, above random weights."""
    found = composition_scores(asked(model, on), kinds=[kind])
    (earlier, later) = named_parts(first)[0], named_parts(second)[0]
    return float(found.scores[kind][(*earlier, *later)]) - found.baseline_mean


@measure("wrote")
def wrote(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    part: str,
    target: str | None = None,
    foil: str | None = None,
) -> float:
    """What parts wrote of the difference themselves: ``L6H3``, ``mlp 7``, ``attn 6``, ``embed``,
    ``norm bias``; several with commas between."""
    found = attributed(model, settings, target, foil)
    by_label = {one.label: one.value for one in found.parts} | found.by_component
    names = [name.strip() for name in part.split(",")]
    if missing := [name for name in names if name not in by_label]:
        raise UnknownSiteError(f"{model.cfg.name} has no {missing[0]}; choose another model.")
    return float(sum(by_label[name] for name in names))


@measure("unexplained")
def unexplained(model: HookedModel, settings: Mapping[str, Any]) -> float:
    """What all parts together leave of the difference, relative to it."""
    return float(attributed(model, settings, None, None).relative_residual)


@measure("wrote_by_kind")
def wrote_by_kind(model: HookedModel, settings: Mapping[str, Any], *, kinds: str) -> float:
    """What all parts of these kinds wrote together: ``head``, ``mlp``, ``attn_bias``, ..."""
    found = attributed(model, settings, None, None)
    wanted = {kind.strip() for kind in kinds.split(",")}
    return float(sum(part.value for part in found.parts if part.kind in wanted))


@measure("strongest_layer")
def strongest_layer(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """The block whose attention and MLP together wrote most of the difference."""
    return int(attributed(model, settings, None, None).by_layer.argmax())


@measure("share_from")
def share_from(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    word: str,
    layer: int | None = None,
    head: int | None = None,
) -> float:
    """The share of what a head wrote of the difference that came from all places of a word."""
    layer, head = chosen(model, settings, layer, head)
    asks = question(model, settings, None, None)
    found = source_attribution(model, token_ids(model, settings), layer=layer, head=head, **asks)
    here = [text.strip() == word.strip() for text in found.question.tokens]
    return float(found.values[here].sum() / found.value)


@measure("total_effect")
def total_effect(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    listed: str | None = None,
    target: str | None = None,
    foil: str | None = None,
) -> float:
    """By how much the difference changes without the listed parts."""
    return float(ablated(model, settings, listed, target, foil).total_effect)


@measure("guess_without")
def guess_without(
    model: HookedModel, settings: Mapping[str, Any], *, listed: str | None = None
) -> str:
    """The model's best guess without the listed parts."""
    return str(ablated(model, settings, listed).after.top_texts[0])
