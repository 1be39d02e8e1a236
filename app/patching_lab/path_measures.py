"""What the lesson on path patching asks, each a pure function of the model and the lab's settings.

Senders and readers are named as the lab names them: `L0H2`, `MLP 3`, `embeddings`; `K of L1H1`,
`MLP 5`, `logits`. The pair is the settings' (see measures.py), or with `family: who gets it` the
mean over sentences in which one of two people gives the other a thing. `on` names a model, such as
a glass one, that is asked in place of the visitor's. Effects are shares of the way from the run
that is patched to the other one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from app.lesson.measures import measure
from app.patching_lab.measures import pair_of
from lens_core import HookedModel
from lens_core.circuits import ioi_dataset, swapped
from lens_core.patching import (
    PatchingError,
    PathResult,
    PromptPair,
    head_inputs,
    path_patching,
    senders_before,
    wire_effects,
)

WHO_GETS_IT = "who gets it"
# Few, so that a lesson need not wait; each is of another template.
N_PAIRS = 4
HELD_STILL = "are held still"


def asked(model: HookedModel, on: str | None) -> HookedModel:
    """The model by that name, or the visitor's where none is named."""
    return model if on in (None, model.cfg.name) else HookedModel.from_pretrained(str(on))


def part(label: str) -> str:
    """The library's name of a sender or reader; raises PatchingError for what is none."""
    text = label.strip()
    head = re.fullmatch(r"(?:([QKV]) of )?L(\d+)H(\d+)", text)
    if head:
        return f"{head[2]}.{head[3]}" + (f".{head[1].lower()}" if head[1] else "")
    if re.fullmatch(r"MLP \d+", text):
        return text.lower()
    if text in ("embeddings", "logits"):
        return "embed" if text == "embeddings" else text
    raise PatchingError(f"{label!r:.40} is no part; write L0H2, K of L1H1, MLP 3 or logits.")


def pairs_of(model: HookedModel, settings: Mapping[str, Any], family: str | None) -> Any:
    """The settings' pair, or those of the family."""
    if family is None:
        return [pair_of(model, settings)]
    if family != WHO_GETS_IT:
        raise PatchingError(f"There is no family {family!r:.40}; there is {WHO_GETS_IT!r}.")
    data = ioi_dataset(model, N_PAIRS, n_reference=1)
    pairs = []
    for group, turned in zip(data.groups, swapped(model, data).groups, strict=True):
        place = torch.arange(group.tokens.shape[1])[:, None].expand(-1, 2)
        for row, clean, corrupted in zip(group.rows, group.tokens, turned.tokens, strict=True):
            answers = int(data.answer[row]), int(data.foil[row])
            pairs.append(PromptPair(clean, corrupted, *answers, place))
    return pairs


def how(settings: Mapping[str, Any], direction: str | None, metric: str | None) -> dict[str, Any]:
    """Direction, metric and what the MLPs do, as the lab has them where they are not named."""
    return {
        "direction": direction or str(settings.get("direction") or "denoise"),
        "metric": metric or str(settings.get("metric") or "logit_difference"),
        "through_mlps": settings.get("between") != HELD_STILL,
    }


def paths(
    model: HookedModel,
    settings: Mapping[str, Any],
    senders: Sequence[str],
    receivers: Sequence[str],
    direction: str | None,
    metric: str | None,
    family: str | None,
) -> PathResult:
    """The paths by the library's names."""
    pairs = pairs_of(model, settings, family)
    return path_patching(model, pairs, senders, receivers, **how(settings, direction, metric))


@measure("wire")
def wire(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    sender: str,
    reader: str,
    direction: str | None = None,
    metric: str | None = None,
    family: str | None = None,
    on: str | None = None,
) -> float:
    """How far one wire moves the answer towards the other run's, as a share of the way."""
    model = asked(model, on)
    ends = [part(sender)], [part(reader)]
    found = paths(model, settings, *ends, direction, metric, family)
    share = float(found.moved[0, 0])
    if share != share:
        raise PatchingError(f"{sender} does not come before {reader} in {model.cfg.name}.")
    return share


@measure("wires_together")
def wires_together(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    senders: str,
    readers: str,
    direction: str | None = None,
    metric: str | None = None,
    on: str | None = None,
) -> float:
    """How far several senders at once move the answer through several readers, commas between."""
    model = asked(model, on)
    said, heard = (tuple(part(n) for n in names.split(",")) for names in (senders, readers))
    run = how(settings, direction, metric)
    found = path_patching(model, pair_of(model, settings), [said], [heard], **run)
    return float(found.moved[0, 0])


@measure("wire_in_units")
def wire_in_units(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    sender: str,
    reader: str,
    corrupted: str | None = None,
    direction: str | None = None,
    metric: str | None = None,
    on: str | None = None,
) -> float:
    """How much one wire changes the metric, in the metric's own unit: no share, so that it can be
    told of a pair whose two runs hardly differ."""
    model = asked(model, on)
    pair = pair_of(model, {**settings, **({"corrupted": corrupted} if corrupted else {})})
    run = how(settings, direction, metric)
    found = path_patching(model, pair, [part(sender)], [part(reader)], **run)
    start = found.corrupted if run["direction"] == "denoise" else found.clean
    return float(abs(found.values[0, 0, 0] - start[0]))


def into_from_heads(
    model: HookedModel,
    settings: Mapping[str, Any],
    reader: str,
    direction: str | None,
    metric: str | None,
    family: str | None,
) -> PathResult:
    """The wires from all heads that a reader can hear."""
    receiver = part(reader)
    senders = [name for name in senders_before(model, receiver) if "." in name]
    return paths(model, settings, senders, [receiver], direction, metric, family)


@measure("strongest_sender")
def strongest_sender(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    reader: str,
    direction: str | None = None,
    metric: str | None = None,
    family: str | None = None,
) -> str:
    """Which head moves the answer most through a reader."""
    found = into_from_heads(model, settings, reader, direction, metric, family)
    ((sender, _),) = found.strongest(1)
    return "L{}H{}".format(*sender.split("."))


@measure("strongest_share")
def strongest_share(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    reader: str,
    direction: str | None = None,
    metric: str | None = None,
    family: str | None = None,
) -> float:
    """How far the head that moves the answer most through a reader moves it, either way."""
    found = into_from_heads(model, settings, reader, direction, metric, family)
    return float(abs(found.moved).max())


@measure("effect")
def effect(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    sender: str,
    kind: str = "total",
    reader: str = "logits",
    direction: str | None = None,
    metric: str | None = None,
    on: str | None = None,
) -> float:
    """A sender's effect, as a share: total, direct, via a reader, or the rest of the total."""
    model = asked(model, on)
    run = how(settings, direction, metric)
    found = wire_effects(model, pair_of(model, settings), part(sender), part(reader), **run)
    return float(getattr(found, kind))


@measure("paths_missing")
def paths_missing(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    sender: str,
    direction: str | None = None,
    metric: str | None = None,
    on: str | None = None,
) -> float:
    """A head's total effect less its direct one and those by way of every head input, a share.

    MLPs pass the change on, so that each way to the answer has one head that reads it first."""
    model = asked(model, on)
    pair, sent = pair_of(model, settings), part(sender)
    run = {**how(settings, direction, metric), "through_mlps": True}
    heads = [
        name
        for layer in range(int(sent.split(".")[0]) + 1, model.cfg.n_layers)
        for head in range(model.cfg.n_heads)
        for name in head_inputs(model, layer, head)
    ]
    found = path_patching(model, pair, [sent], ["logits", *dict.fromkeys(heads)], **run)
    total = wire_effects(model, pair, sent, **run).total
    return total - float(found.moved.sum())
