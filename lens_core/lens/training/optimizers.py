"""The three optimisers, with one schedule: up linearly, then down linearly to 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lens_core.lens.training.recipe import RecipeError, TunedRecipe

ADAMW_RATE = 1e-3
# Of updates that are scaled to the size that AdamW's have.
MUON_RATE = 1e-2


class LensOptimizer:
    """The optimiser of a recipe for the matrices and biases of a lens."""

    def __init__(
        self, recipe: TunedRecipe, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> None:
        self.recipe = recipe
        self.parts = _parts(recipe, list(weights), list(biases))
        self.rates = [part.param_groups[0]["lr"] for part in self.parts]

    def factor(self, step: int) -> float:
        """What multiplies the rate at a step, counted from 0."""
        total, warmup = self.recipe.steps, self.recipe.warmup
        return min(1.0, (step + 1) / (warmup + 1)) * (1.0 - step / total)

    def step(self, step: int) -> None:
        """Move the parameters by their gradients."""
        for part, rate in zip(self.parts, self.rates, strict=True):
            part.param_groups[0]["lr"] = rate * self.factor(step)
            part.step()

    def state(self) -> list[dict[str, Any]]:
        """All that a resumed run needs."""
        return [part.state_dict() for part in self.parts]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Go on from a saved state."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def _parts(
    recipe: TunedRecipe, weights: list[Tensor], biases: list[Tensor]
) -> list[torch.optim.Optimizer]:
    momentum, decay, scale = recipe.momentum, recipe.weight_decay, recipe.lr_scale
    if recipe.optimizer == "sgd":
        rate = scale * (1.0 - momentum)
        return [
            torch.optim.SGD(
                [*weights, *biases],
                lr=rate,
                momentum=momentum,
                nesterov=momentum > 0,
                weight_decay=decay,
            )
        ]
    adamw_on = biases if recipe.optimizer == "muon" else [*weights, *biases]
    # Beside Muon the biases move as fast as the matrices do, so that neither waits for the other.
    adamw_rate = scale * (MUON_RATE if recipe.optimizer == "muon" else ADAMW_RATE)
    adamw = torch.optim.AdamW(adamw_on, lr=adamw_rate, betas=(momentum, 0.999), weight_decay=decay)
    if recipe.optimizer == "adamw" or not weights:
        return [adamw]
    if not hasattr(torch.optim, "Muon"):
        raise RecipeError("Muon needs torch 2.9 or newer; update torch, or choose adamw or sgd.")
    muon = torch.optim.Muon(
        weights,
        lr=scale * MUON_RATE,
        momentum=momentum,
        weight_decay=decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, adamw]


def clip_gradients(groups: Sequence[Sequence[Tensor]], largest: float) -> None:
    """Shorten the gradient of each group by itself to the largest norm.

    The gradients are those of parameters; those without one count nothing.
    """
    for group in groups:
        torch.nn.utils.clip_grad_norm_(group, largest)
