"""What a sweep and its estimate share: the pairs, the places and the metric, made ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from lens_core.patching.alignment import PromptPair
from lens_core.patching.groups import Group, as_pairs, group_pairs
from lens_core.patching.metrics import Metric, as_metric
from lens_core.patching.plan import Choices, Plan, make_plan
from lens_core.patching.result import Array, Direction, PatchWith, SweepResult

if TYPE_CHECKING:
    from lens_core import HookedModel

MetricLike = Metric | str | Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Question:
    """Which places are patched in which pairs, and what is measured; make it with `prepare`.

    Attributes:
        groups: the pairs by shape, those of one shape in one run.
        plan: the places.
        direction: which of the two runs is patched.
    """

    model: HookedModel
    pairs: tuple[PromptPair, ...]
    groups: Sequence[Group]
    plan: Plan
    measure: Metric
    direction: Direction

    def texts(self, given: Sequence[Tensor] | None) -> list[Tensor]:
        """Reference prompts as rows [1, pos]; None: the pairs' own, each once, without padding."""
        if given is None:
            rows = [
                prompt[n:]
                for p in self.pairs
                for prompt, n in zip((p.clean, p.corrupted), p.padding, strict=True)
            ]
            given = list({tuple(row.tolist()): row for row in rows}.values())
        return [row.reshape(1, -1).to(self.model.cfg.device) for row in given]

    def result(
        self, values: Array, unpatched: Array, patch_with: PatchWith = "other run", seed: int = 0
    ) -> SweepResult:
        """The labelled result.

        Args:
            values: [cell, pair]; unpatched: [2, pair], of the clean and of the corrupted run.
        """
        model, first = self.model, self.groups[0].tokens[0]
        return SweepResult(
            site=self.plan.site,
            patch_with=patch_with,
            direction=self.direction,
            metric=self.measure.name,
            unit=self.measure.unit,
            axes=self.plan.axes,
            labels=self.plan.labels,
            values=values.reshape(*self.plan.shape, len(self.pairs)),
            clean=unpatched[0],
            corrupted=unpatched[1],
            token_texts=tuple(model.to_str_tokens(first)) if model.tokenizer is not None else (),
            seed=seed,
        )


def prepare(
    model: HookedModel,
    pairs: PromptPair | Sequence[PromptPair],
    site: str,
    choices: Choices,
    direction: Direction,
    metric: MetricLike,
) -> Question:
    """The question that arguments of `sweep` ask.

    Raises:
        PatchingError: a choice that does not fit the site, the model or the prompts.
    """
    measure = as_metric(metric)
    all_pairs = as_pairs(pairs, measure)
    groups = group_pairs(all_pairs, direction, model.cfg.device)
    return Question(
        model, all_pairs, groups, make_plan(model, groups, site, choices), measure, direction
    )
