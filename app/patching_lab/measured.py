"""The lab's questions to `lens_core.patching`, as functions of plain values: so they are kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from app.attention_cache import Answer, Corpus, begin
from app.jobs import Job
from app.patching_lab.asked import Guesses, Scene, guesses_of
from app.patching_lab.pairs import PairKey
from app.patching_lab.settings import ALL_POSITIONS
from lens_core.patching import Answers, Metric, SweepResult, sweep
from lens_core.patching.attribution_patching import attribution_patching

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.patching.engine import OnStep
    from lens_core.patching.result import Direction, PatchWith

NEEDS_TEXTS = ("mean", "resample")


@dataclass(frozen=True)
class Patched:
    """One patch: the next token after the clean run, the corrupted one, and the patched one."""

    clean: Guesses
    corrupted: Guesses
    patched: Guesses


def swept(
    model: HookedModel,
    keys: Sequence[PairKey],
    site: str,
    positions: tuple[int, ...] | Literal["each", "all"],
    patch_with: PatchWith,
    direction: Direction,
    metric: str,
    seed: int,
    texts: Sequence[torch.Tensor] | None = None,
    on_step: OnStep | None = None,
) -> SweepResult:
    """A sweep over pairs that are named by plain values; otherwise as `sweep`."""
    return sweep(
        model,
        [key.pair(model) for key in keys],
        site,
        positions=positions,
        patch_with=patch_with,
        direction=direction,
        metric=metric,
        reference=texts,
        on_step=on_step,
        seed=seed,
    )


def estimated(
    model: HookedModel,
    key: PairKey,
    site: str,
    direction: Direction,
    metric: str,
    ig_steps: int,
) -> SweepResult:
    """The map of layers by positions, estimated by attribution patching."""
    return attribution_patching(
        model, key.pair(model), site, direction=direction, metric=metric, ig_steps=ig_steps
    )


def one_patch(
    model: HookedModel,
    key: PairKey,
    site: str,
    layer: int,
    position: int | None,
    head: int | None,
    patch_with: PatchWith,
    direction: Direction,
    seed: int,
    texts: Sequence[torch.Tensor] | None = None,
) -> Patched:
    """What one patch makes of the next token; without a position at all of them, without a head
    all of them."""
    seen: list[torch.Tensor] = []

    def remember(logits: torch.Tensor, answers: Answers) -> torch.Tensor:
        seen.extend(logits)
        return logits[:, 0]

    sweep(
        model,
        key.pair(model),
        site,
        layers=[layer],
        positions="all" if position is None else [position],
        heads=None if head is None else [head],
        patch_with=patch_with,
        direction=direction,
        metric=Metric("the logits themselves", "", remember),
        reference=texts,
        seed=seed,
    )
    # A sweep measures the clean run, then the corrupted one, then its cells.
    clean, corrupted, patched = (guesses_of(model, row, key.answer, key.foil) for row in seen)
    return Patched(clean, corrupted, patched)


def layers_of(found: SweepResult) -> list[int]:
    """The layers of a sweep that patched one at a time."""
    return [label for label in found.labels["layer"] if isinstance(label, int)]


def places_job(scene: Scene) -> Job[Answer[SweepResult]]:
    """The map of layers by positions."""
    return _begin(scene, site=scene.settings.site, positions="each")


def heads_job(scene: Scene) -> Job[Answer[SweepResult]]:
    """The map of layers by heads."""
    everywhere = scene.settings.over == ALL_POSITIONS
    return _begin(scene, site=scene.settings.part, positions="all" if everywhere else (scene.at,))


def many_swept(scene: Scene, keys: tuple[PairKey, ...], on_step: OnStep) -> Answer[SweepResult]:
    """The map of layers by positions over many pairs, computed here and now."""
    settings, given = scene.settings, how(scene)
    start = time.perf_counter()
    if isinstance(given["texts"], Corpus):
        given["texts"] = given["texts"].rows(scene.model)
    found = swept(
        scene.model,
        keys,
        settings.site,
        "each",
        metric=settings.metric,
        on_step=on_step,
        **given,
    )
    return Answer(found, 1000 * (time.perf_counter() - start))


def _begin(
    scene: Scene,
    *,
    site: str,
    positions: tuple[int, ...] | Literal["each", "all"],
) -> Job[Answer[SweepResult]]:
    settings = scene.settings
    return begin(
        scene.model,
        swept,
        keys=(scene.key,),
        site=site,
        positions=positions,
        metric=settings.metric,
        **how(scene),
    )


def how(scene: Scene) -> dict[str, Any]:
    """Direction, what is put in, and the texts that it may come from."""
    settings = scene.settings
    texts = Corpus(len(scene.tokens), settings.seed) if settings.patch_with in NEEDS_TEXTS else None
    return {
        "patch_with": settings.patch_with,
        "direction": settings.direction,
        "seed": settings.seed,
        "texts": texts,
    }
