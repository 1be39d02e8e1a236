"""All replications on one model, one after another, each by its key.

    suite = Suite(model, train, held_out, tuned=lens)
    for key in suite.keys:
        print(suite.run(key).verdict)

Lenses that several of them need are trained once, when the first of these is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from lens_core.lens.corpus import Rows
from lens_core.lens.evaluate import LensEvaluation, evaluate_lenses
from lens_core.lens.read import OnStep
from lens_core.lens.replications.anomaly import replicate_anomaly
from lens_core.lens.replications.causal_basis import replicate_causal_basis
from lens_core.lens.replications.difficulty import replicate_prediction_depth
from lens_core.lens.replications.layer_transfer import replicate_layer_transfer
from lens_core.lens.replications.marginal_bias import replicate_marginal_bias
from lens_core.lens.replications.nested_lenses import replicate_nested_lenses
from lens_core.lens.replications.result import Replication
from lens_core.lens.replications.shuffled_targets import replicate_shuffled_targets
from lens_core.lens.replications.small_lenses import (
    SMALL_RECIPE,
    train_lens,
    train_on_shuffled_targets,
    train_seeds,
)
from lens_core.lens.replications.stimulus_response import replicate_stimulus_response
from lens_core.lens.replications.tuned_below_logit import replicate_tuned_below_logit
from lens_core.lens.training import TunedRecipe
from lens_core.lens.transports import LogitLens, Transport, TunedLens

if TYPE_CHECKING:
    from lens_core import HookedModel


class Suite:
    """What the replications share: the model, text, seeds, and lenses trained when first needed.

    Args:
        train, held_out: rows with no document in common.
        tuned: a well-trained tuned lens, for the experiments that are about what a good lens reads;
            None takes the first of those trained here.
        recipe: of the lenses trained here.
        n_evaluated: held-out rows for the comparison of lenses.
    """

    def __init__(
        self,
        model: HookedModel,
        train: Rows,
        held_out: Rows,
        *,
        tuned: Transport | None = None,
        recipe: TunedRecipe = SMALL_RECIPE,
        seeds: tuple[int, ...] = (0, 1, 2),
        n_evaluated: int = 64,
        seed: int = 0,
        on_step: OnStep | None = None,
    ) -> None:
        self.model, self.train, self.held_out = model, train, held_out
        self.recipe, self.seeds, self.seed = recipe, seeds, seed
        self.n_evaluated, self.on_step = n_evaluated, on_step
        self._tuned = tuned

    @property
    def keys(self) -> tuple[str, ...]:
        """The replications, in the order of the page."""
        return tuple(self._experiments)

    def run(self, key: str) -> Replication:
        """One of them. Raises KeyError for another key."""
        return self._experiments[key]()

    @cached_property
    def trained(self) -> dict[str, TunedLens]:
        """One tuned lens a seed."""
        return train_seeds(
            self.model, self.train, self.recipe, seeds=self.seeds, on_step=self.on_step
        )

    @property
    def _first(self) -> TunedLens:
        return next(iter(self.trained.values()))

    @property
    def tuned(self) -> Transport:
        """The lens of the experiments about what a good lens reads."""
        return self._tuned or self._first

    @cached_property
    def _evaluation(self) -> LensEvaluation:
        bias_only = replace(self.recipe, bias_only=True, seed=self.seeds[0])
        lenses: dict[str, Transport] = {
            "logit": LogitLens(),
            "bias-only": train_lens(self.model, self.train, bias_only, on_step=self.on_step),
            **self.trained,
        }
        rows = self.held_out.take(torch.arange(min(self.n_evaluated, len(self.held_out))))
        return evaluate_lenses(
            self.model, lenses, rows, n_bootstrap=400, seed=self.seed, on_step=self.on_step
        )

    @property
    def _experiments(self) -> dict[str, Callable[[], Replication]]:
        return {
            "tuned_below_logit": lambda: replicate_tuned_below_logit(
                self._evaluation, tuned=tuple(self.trained)
            ),
            "nested_lenses": lambda: replicate_nested_lenses(
                self._evaluation, affine=next(iter(self.trained))
            ),
            "shuffled_targets": self._shuffled_targets,
            "marginal_bias": lambda: replicate_marginal_bias(
                self.model, self.tuned, self.held_out, seed=self.seed, on_step=self.on_step
            ),
            "layer_transfer": lambda: replicate_layer_transfer(
                self.model, self.tuned, self.held_out, seed=self.seed, on_step=self.on_step
            ),
            "causal_basis": lambda: replicate_causal_basis(
                self.model, self.tuned, self.held_out, seed=self.seed, on_step=self.on_step
            ),
            "stimulus_response": lambda: replicate_stimulus_response(
                self.model, self.tuned, self.held_out, seed=self.seed, on_step=self.on_step
            ),
            "prediction_depth": lambda: replicate_prediction_depth(
                self.model, self.tuned, self.held_out, seed=self.seed, on_step=self.on_step
            ),
            "anomaly": lambda: replicate_anomaly(
                self.model, self.tuned, seed=self.seed, on_step=self.on_step
            ),
        }

    def _shuffled_targets(self) -> Replication:
        recipe = replace(self.recipe, seed=self.seeds[0])
        shuffled = train_on_shuffled_targets(self.model, self.train, recipe, on_step=self.on_step)
        return replicate_shuffled_targets(
            self.model,
            self._first,
            shuffled,
            self.train,
            self.held_out,
            seed=self.seed,
            on_step=self.on_step,
        )
