"""The wires' questions to `lens_core.patching`, as functions of plain values: so they are kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from app.attention_cache import Answer, Corpus, ask, begin
from app.jobs import Job
from app.patching_lab.asked import Scene, guesses_of
from app.patching_lab.measured import Patched
from app.patching_lab.pairs import PairKey
from app.patching_lab.settings import HELD_STILL, LOGITS, MLP, ONE_POSITION
from lens_core.patching import (
    Answers,
    Metric,
    PathResult,
    WireEffects,
    head_inputs,
    path_patching,
    senders_before,
    wire_effects,
)
from lens_core.plots import wire_label

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.patching.result import Direction

Positions = tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Wires:
    """The wires into the chosen reader and its other inputs, and into a reader drawn at random."""

    found: PathResult
    control: PathResult | None


def read_by(scene: Scene) -> str:
    """The chosen reader, by the library's name."""
    reads = scene.settings.reads
    if reads == LOGITS:
        return reads
    if reads == MLP:
        return f"mlp {scene.layer}"
    return readers(scene)["qkv".index(reads)]


def readers(scene: Scene) -> tuple[str, ...]:
    """The chosen reader, or all three inputs of its head."""
    if scene.settings.reads in (LOGITS, MLP):
        return (read_by(scene),)
    return head_inputs(scene.model, scene.layer, scene.head)


def control_reader(scene: Scene) -> str | None:
    """Another reader of the same kind, drawn by the seed; None if there is no other."""
    own, cfg = read_by(scene), scene.model.cfg
    if own == LOGITS:
        others = [f"{cfg.n_layers - 1}.{head}.q" for head in range(cfg.n_heads)]
    elif scene.settings.reads == MLP:
        others = [f"mlp {layer}" for layer in range(cfg.n_layers)]
    else:
        heads = cfg.n_heads if scene.settings.reads == "q" else cfg.n_kv_heads
        others = [f"{scene.layer}.{head}.{scene.settings.reads}" for head in range(heads)]
    others = [name for name in others if name != own]
    return random.Random(f"{scene.settings.seed} {own}").choice(others) if others else None


def how(scene: Scene) -> dict[str, Any]:
    """Where the senders are patched, what stays as it is, and which way."""
    settings = scene.settings
    return {
        "positions": (scene.at,) if settings.over == ONE_POSITION else None,
        "through_mlps": settings.between != HELD_STILL,
        "direction": settings.direction,
        "metric": settings.metric,
    }


def wires_job(scene: Scene) -> Job[Answer[Wires]]:
    """Every wire into the chosen reader."""
    return begin(
        scene.model,
        all_wires,
        key=scene.key,
        receivers=readers(scene),
        control=control_reader(scene),
        **how(scene),
    )


def all_wires(
    model: HookedModel,
    key: PairKey,
    receivers: tuple[str, ...],
    control: str | None,
    **how: Any,
) -> Wires:
    """Path patching from every part to readers of one block, and to one other reader."""
    senders = senders_before(model, receivers[0])
    several = receivers if control is None else (*receivers, control)
    found = path_patching(model, key.pair(model), senders, several, **how)
    if control is None:
        return Wires(found, None)
    return Wires(_only(found, receivers), _only(found, (control,)))


def _only(found: PathResult, receivers: Sequence[str]) -> PathResult:
    columns = [found.receivers.index(name) for name in receivers]
    return replace(found, receivers=tuple(receivers), values=found.values[:, columns])


def sender_of(scene: Scene, found: PathResult) -> str:
    """The chosen sender, or the strongest where none is chosen that the reader can hear."""
    named = {wire_label(name): name for name in found.senders}
    if scene.settings.sender in named:
        return named[scene.settings.sender]
    ((sender, _),) = _only(found, [read_by(scene)]).strongest(1)
    return sender


def chosen_sender(scene: Scene) -> str:
    """The same, once the wires are known."""
    job = wires_job(scene)
    job.finished.wait()
    if job.error is not None:
        raise job.error
    assert job.result is not None
    return sender_of(scene, job.result.result.found)


def one_wire(
    model: HookedModel, key: PairKey, sender: str, receiver: str, metric: str, **how: Any
) -> Patched:
    """What one wire makes of the next token, whatever the metric."""
    seen: list[torch.Tensor] = []

    def remember(logits: torch.Tensor, answers: Answers) -> torch.Tensor:
        seen.extend(logits)
        return logits[:, 0]

    whole = Metric("the logits themselves", "", remember)
    path_patching(model, key.pair(model), [sender], [receiver], metric=whole, **how)
    # Path patching measures the clean run, then the corrupted one, then its paths.
    clean, corrupted, patched = (guesses_of(model, row, key.answer, key.foil) for row in seen)
    return Patched(clean, corrupted, patched)


def patched_wire(scene: Scene, sender: str) -> Patched:
    """The chosen wire's next tokens."""
    return ask(scene.model, one_wire, **_named(scene, sender)).result


def effects_of(scene: Scene, sender: str) -> WireEffects:
    """What goes by the chosen wire, and what goes by others."""
    return ask(scene.model, _effects, **_named(scene, sender)).result


def _named(scene: Scene, sender: str) -> dict[str, Any]:
    """One wire as an analysis is asked about it."""
    return {"key": scene.key, "sender": sender, "receiver": read_by(scene), **how(scene)}


def _effects(model: HookedModel, key: PairKey, **wire: Any) -> WireEffects:
    return wire_effects(model, key.pair(model), **wire)


def stray_share(scene: Scene, sender: str, found: PathResult) -> float:
    """The control: how far the wire moves the answer with an unrelated text's message on it."""
    value = ask(
        scene.model,
        _stray,
        texts=Corpus(len(scene.tokens) + 1, scene.settings.seed),
        **_named(scene, sender),
    ).result
    start, end = float(found.corrupted[0]), float(found.clean[0])
    if not scene.denoising:
        start, end = end, start
    return (value - start) / (end - start) if end != start else float("nan")


def _stray(
    model: HookedModel,
    key: PairKey,
    sender: str,
    receiver: str,
    texts: Sequence[torch.Tensor],
    direction: Direction,
    **how: Any,
) -> float:
    pair = key.pair(model)
    n = len(pair.clean)
    text = next((row[0, :n] for row in texts if row.shape[1] >= n), None)
    if text is None:  # a glass model has too few words for a text as long as this
        return float("nan")
    other = replace(pair, clean=text) if direction == "denoise" else replace(pair, corrupted=text)
    found = path_patching(model, other, [sender], [receiver], direction=direction, **how)
    return float(found.values[0, 0, 0])
