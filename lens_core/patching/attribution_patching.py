"""Attribution patching: every patch of a sweep estimated from two runs and one gradient.

The effect of replacing an activation is estimated as (what would be written - what is there) times
the gradient of the metric, summed over the entries (Nanda 2023). It costs as much for every neuron
as for one layer, and is wrong where the model is not linear over so large a step: in the residual
stream, in early MLPs, and where attention is saturated (Kramar et al. 2024). Averaging the gradient
over runs between the two prompts (`ig_steps`, as in EAP-IG, Hanna et al. 2024) mends part of that.
`verify` patches the best and some random cells for real, and shows how far off the estimate is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lens_core.bootstrap import spearman
from lens_core.model.sites import SITES
from lens_core.patching.alignment import PromptPair
from lens_core.patching.cells import Cell, Place, chosen_indices
from lens_core.patching.errors import PatchingError
from lens_core.patching.groups import Group, answers_of, as_pairs
from lens_core.patching.metrics import as_metric, logit_difference
from lens_core.patching.plan import Choice, Choices
from lens_core.patching.question import MetricLike, Question, prepare
from lens_core.patching.result import Array, Direction, Label, SweepResult
from lens_core.patching.sources import Filling, Other, aligned
from lens_core.patching.sweeps import patched_values

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

_PAIRS_AT_ONCE = 16


def attribution_patching(
    model: HookedModel,
    pairs: PromptPair | Sequence[PromptPair],
    site: str,
    *,
    layers: Sequence[Label] | None = None,
    positions: Choice = "each",
    heads: Choice | None = None,
    neurons: Choice | None = None,
    keys: Choice | None = None,
    direction: Direction = "denoise",
    metric: MetricLike = logit_difference,
    ig_steps: int = 0,
) -> SweepResult:
    """What `sweep` would find, estimated to first order.

    Args:
        ig_steps: 0 takes the gradient at the run that is patched; else it is averaged over so many
            runs whose embeddings lie between the two prompts'.

    The other arguments are those of `sweep`.

    Returns:
        As from `sweep`: each value is the metric of the patched run plus the estimated effect.

    Raises:
        PatchingError: as `sweep`; a metric without a gradient; `scores`, which are -inf in part.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.patching import prompt_pair
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> pair = prompt_pair(model, "one two three", "one four three", " five", " six")
        >>> attribution_patching(model, pair, "z").axes
        ('layer', 'position', 'head')
    """
    if site == "scores" or ig_steps < 0:
        raise PatchingError(
            "Attribution patching takes the pattern in place of scores, and 0 or more ig_steps."
        )
    choices = Choices(layers, positions, heads, neurons, keys)
    asked = prepare(model, pairs, site, choices, direction, metric)
    values = np.full((asked.plan.n_cells, len(asked.pairs)), np.nan)
    unpatched = np.full((2, len(asked.pairs)), np.nan)  # of the patched run, and of the other
    for group in (part for whole in asked.groups for part in _parts(whole)):
        products, runs = _products(asked, group, ig_steps)
        unpatched[:, list(group.pairs)] = runs
        for number, cell in zip(*asked.plan.cells(group), strict=True):
            estimate = runs[0, cell.row] + _estimate(cell, products)
            values[number, group.pairs[cell.row]] = estimate
    return asked.result(values, unpatched[::-1] if direction == "denoise" else unpatched)


def _parts(group: Group) -> Iterator[Group]:
    """A group in parts whose gradients fit into memory."""
    for begin in range(0, len(group.pairs), _PAIRS_AT_ONCE):
        part = slice(begin, begin + _PAIRS_AT_ONCE)
        other = group.other
        yield Group(
            group.pairs[part],
            group.tokens[part],
            None if group.mask is None else group.mask[part],
            Other(
                other.tokens[part],
                None if other.mask is None else other.mask[part],
                other.position[part],
            ),
        )


def _products(asked: Question, group: Group, ig_steps: int) -> tuple[dict[Place, Array], Array]:
    """Step times gradient at each place, summed over the entries that are patched together.

    Returns:
        [row, ...] without a last axis of d_model, d_head or d_vocab, and the metric of the patched
        run and of the other, [2, row].
    """
    model, places, measure = asked.model, asked.plan.places, asked.measure
    names = [*places, ("resid_pre", 0)]
    last, cache = model.run_with_cache(group.other.tokens, names, attention_mask=group.other.mask)
    base_logits, base = model.run_with_cache(
        group.tokens, names, attention_mask=group.mask, grad=True
    )
    clean = last[:, -1] if asked.direction == "denoise" else base_logits[:, -1].detach()
    answers, columns = answers_of([asked.pairs[i] for i in group.pairs], measure, clean)

    def metric_of(logits: Tensor) -> Tensor:
        seen = logits[:, -1]
        return measure(seen if columns is None else seen[:, columns], answers)

    patched = metric_of(base_logits)
    if not patched.requires_grad:
        raise PatchingError(f"The metric {measure.name!r} has no gradient; use another one.")
    if ig_steps == 0:
        found = _gradients(patched, [base[place] for place in places])
    else:
        start = base["resid_pre", 0].detach()
        end = aligned(cache["resid_pre", 0], "resid_pre", group.other)
        end = torch.where((group.other.position >= 0)[..., None], end, start)
        found = [torch.zeros_like(base[place]) for place in places]
        for step in range(ig_steps):
            resid = start + (step + 0.5) / ig_steps * (end - start)
            logits, between = model.run_with_cache(
                group.tokens, places, resid=resid, attention_mask=group.mask, grad=True
            )
            new = _gradients(metric_of(logits), [between[place] for place in places])
            found = [old + g / ig_steps for old, g in zip(found, new, strict=True)]
    products = {}
    for place, gradient in zip(places, found, strict=True):
        change = aligned(cache[place], place[0], group.other) - base[place].detach()
        product = (change.double() * gradient.double()).cpu()
        summed = SITES[place[0]].axes[-1] in ("d_model", "d_head", "d_vocab")
        products[place] = (product.sum(-1) if summed else product).numpy()
    both = torch.stack([patched.detach(), metric_of(last)])
    return products, both.cpu().numpy()


def _gradients(metric: Tensor, at: Sequence[Tensor]) -> list[Tensor]:
    """Of each row's metric with respect to its activations; 0 where it does not depend on them."""
    if not metric.requires_grad:
        return [torch.zeros_like(x) for x in at]
    found = torch.autograd.grad(metric.sum(), at, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(at, found, strict=True)]


def _estimate(cell: Cell, products: dict[Place, Array]) -> float:
    total = 0.0
    for write in cell.writes:
        x = products[write.place][cell.row]
        for axis, chosen in chosen_indices(write).items():
            x = x.take(chosen, axis=SITES[write.site].axes.index(axis) - 1)
            # `take` keeps the axis, so the indices of the later ones stay right.
        total += float(x.sum())
    return total


@dataclass(frozen=True, eq=False)
class Verification:
    """Cells of an estimate that were patched for real. Effects are in the metric's unit.

    Attributes:
        axes: names of the axes; cells: the labels of each checked cell.
        chosen: "top" (the largest estimates) or "random" (drawn from the rest).
        estimated, true: effect on the patched run, the mean over pairs, [checked].
    """

    axes: tuple[str, ...]
    cells: tuple[tuple[Label, ...], ...]
    chosen: tuple[str, ...]
    estimated: Array
    true: Array
    unit: str

    @property
    def spearman(self) -> float:
        """Rank correlation of estimate and truth over the checked cells."""
        return spearman(self.estimated, self.true)

    @property
    def pearson(self) -> float:
        """Correlation of estimate and truth over the checked cells; 0 if one does not vary."""
        a, b = self.estimated - self.estimated.mean(), self.true - self.true.mean()
        norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
        return float((a * b).sum() / norm) if norm else 0.0

    def worst(self, n: int = 5) -> tuple[int, ...]:
        """The checked cells whose estimate is furthest from the truth, worst first."""
        return tuple(np.argsort(-np.abs(self.estimated - self.true))[:n].tolist())

    def to_frame(self) -> pd.DataFrame:
        """One line a checked cell."""
        import pandas as pd

        frame = pd.DataFrame(list(self.cells), columns=list(self.axes))
        frame["chosen"] = self.chosen
        frame["estimated_effect"], frame["true_effect"] = self.estimated, self.true
        frame["miss"] = self.estimated - self.true
        return frame


def verify(
    model: HookedModel,
    pairs: PromptPair | Sequence[PromptPair],
    estimate: SweepResult,
    *,
    metric: MetricLike = logit_difference,
    top: int = 10,
    random: int = 10,
    memory_gb: float | None = None,
    on_step: Callable[[int, int], None] | None = None,
    seed: int = 0,
) -> Verification:
    """Patch the cells with the largest estimates, and random others, for real.

    Args:
        estimate: from `attribution_patching`, of the same pairs and metric.
        top, random: how many cells of each kind; fewer where there are not so many.

    Raises:
        PatchingError: the estimate is of other pairs or another metric.
    """
    measure = as_metric(metric)
    all_pairs = as_pairs(pairs, measure)
    if measure.name != estimate.metric or len(all_pairs) != estimate.n_pairs:
        raise PatchingError("Verify an estimate with the pairs and the metric that it was made of.")
    asked = prepare(
        model, all_pairs, estimate.site, _choices_of(estimate), estimate.direction, measure
    )
    plan = asked.plan
    before = estimate.corrupted if estimate.direction == "denoise" else estimate.clean
    effects = (estimate.values.reshape(plan.n_cells, -1) - before).mean(-1)
    numbers, chosen = _choose(effects, top, random, seed)
    values, _ = patched_values(
        asked, Filling(), memory_gb=memory_gb, on_step=on_step, only=set(numbers)
    )
    where = np.unravel_index(numbers, plan.shape) if plan.shape else ()
    labels: list[Any] = [
        [plan.labels[axis][i] for i in index] for axis, index in zip(plan.axes, where, strict=True)
    ]
    return Verification(
        axes=plan.axes,
        cells=tuple(zip(*labels, strict=True)),
        chosen=chosen,
        estimated=effects[numbers],
        true=(values[numbers] - before).mean(-1),
        unit=estimate.unit,
    )


def _choices_of(result: SweepResult) -> Choices:
    """What a result was made with."""
    has_heads = len(SITES[result.site].axes) == 4
    return Choices(
        result.labels.get("layer"),
        result.labels.get("position", "all"),
        result.labels.get("head", "all" if has_heads else None),
        result.labels.get("neuron"),
        result.labels.get("key"),
    )


def _choose(effects: Array, top: int, random: int, seed: int) -> tuple[list[int], tuple[str, ...]]:
    usable = np.flatnonzero(np.isfinite(effects))
    ranked = usable[np.argsort(-np.abs(effects[usable]), kind="stable")]
    best, rest = ranked[:top], ranked[top:]
    drawn = np.random.default_rng(seed).choice(rest, min(random, len(rest)), replace=False)
    kinds = ("top",) * len(best) + ("random",) * len(drawn)
    return [*best.tolist(), *drawn.tolist()], kinds
