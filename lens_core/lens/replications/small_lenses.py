"""Lenses trained on the spot, with few tokens, for the replications that need several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from lens_core.interventions import custom
from lens_core.lens.corpus import Rows
from lens_core.lens.read import OnStep
from lens_core.lens.training import TunedRecipe, train_tuned
from lens_core.lens.transports import TunedLens

if TYPE_CHECKING:
    from lens_core import HookedModel

SMALL_RECIPE = TunedRecipe(
    steps=48, tokens_per_step=1024, tokens_per_pass=1024, harvest_gb=0.0, held_out_tokens=512
)


def train_lens(
    model: HookedModel,
    rows: Rows,
    recipe: TunedRecipe = SMALL_RECIPE,
    *,
    on_step: OnStep | None = None,
) -> TunedLens:
    """A tuned lens."""

    def step(done: int, total: int, losses: tuple[float, ...]) -> None:
        if on_step is not None:
            on_step(done, total)

    return train_tuned(model, rows, recipe, on_step=step).lens


def train_seeds(
    model: HookedModel,
    rows: Rows,
    recipe: TunedRecipe = SMALL_RECIPE,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    on_step: OnStep | None = None,
) -> dict[str, TunedLens]:
    """``tuned, seed 0`` and so on: the same recipe over the rows in different orders."""
    lenses = {}
    for n, seed in enumerate(seeds):

        def step(done: int, total: int, n: int = n) -> None:
            if on_step is not None:
                on_step(n * total + done, len(seeds) * total)

        lenses[f"tuned, seed {seed}"] = train_lens(
            model, rows, replace(recipe, seed=seed), on_step=step
        )
    return lenses


def train_on_shuffled_targets(
    model: HookedModel,
    rows: Rows,
    recipe: TunedRecipe = SMALL_RECIPE,
    *,
    on_step: OnStep | None = None,
) -> TunedLens:
    """A lens whose every target is what the model says of another row at the same position."""
    last = model.cfg.n_layers - 1
    with model.interventions(custom("resid_post", last, _next_row, name="another row's")):
        return train_lens(model, rows, recipe, on_step=on_step)


def _next_row(states: Tensor) -> Tensor:
    return states.roll(1, dims=0)
