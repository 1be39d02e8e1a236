"""Sweeps: the same patch at every layer, position and head, and how much of the answer it moves.

Denoising puts clean activations into the corrupted run and shows what is enough to restore the
answer; noising puts corrupted ones into the clean run and shows what the answer needs. They are not
mirror images: of two parts that are both needed, neither alone restores anything; of two that each
suffice, neither alone is missed (Heimersheim and Nanda 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.patching.alignment import PromptPair
from lens_core.patching.base import Base, record_base
from lens_core.patching.cells import Cell, Sources
from lens_core.patching.engine import OnStep, run_cells
from lens_core.patching.groups import Group, answers_of
from lens_core.patching.metrics import Answers, Metric, logit_difference
from lens_core.patching.plan import Choice, Choices
from lens_core.patching.question import MetricLike, Question, prepare
from lens_core.patching.result import Array, Direction, Label, PatchWith, SweepResult
from lens_core.patching.sources import Filling, make_sources

if TYPE_CHECKING:
    from lens_core import HookedModel


def sweep(
    model: HookedModel,
    pairs: PromptPair | Sequence[PromptPair],
    site: str,
    *,
    layers: Sequence[Label] | None = None,
    positions: Choice = "each",
    heads: Choice | None = None,
    neurons: Choice | None = None,
    keys: Choice | None = None,
    patch_with: PatchWith = "other run",
    direction: Direction = "denoise",
    metric: MetricLike = logit_difference,
    reference: Sequence[Int[Tensor, "1 pos"]] | None = None,
    noise_std: float = 1.0,
    memory_gb: float | None = None,
    on_step: OnStep | None = None,
    seed: int = 0,
) -> SweepResult:
    """Patch one site everywhere, one place at a time, and measure the answer.

    Args:
        pairs: from `prompt_pair`; averaged over where there are several.
        site: where, for example "resid_pre", "z" (the output of heads), "mlp_out", "pattern".
        layers: None: each that has the site; a tuple in the list is a window patched at once.
        positions: "each", "all" at once, or a list; negative ones count from the end. Of `pattern`
            and `scores` the query's, of `k` and `v` the key's.
        heads, neurons, keys: likewise, for sites that have them; None: each head, and all neurons
            and all keys at once.
        patch_with: the activations of the pair's other run; zeros; the mean over `reference`;
            those of a prompt drawn from it; or noise on top of what is there.
        direction: "denoise" patches the corrupted run, "noise" the clean one.
        metric: one of `lens_core.patching`'s, its name, or a function of logits [row, d_vocab].
        reference: prompts for "mean" and "resample"; None: all prompts of the pairs.
        noise_std: the noise's standard deviation, in multiples of the site's own.
        memory_gb: about how much memory a batch may take.
        on_step: called with the number of runs done and of all; raise in it to cancel.

    Returns:
        Values [layer, position, head, ..., pair], only the axes that were swept.

    Raises:
        PatchingError: a choice that does not fit the site, the model or the prompts.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.patching import prompt_pair
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> pair = prompt_pair(model, "one two three", "one four three", " five", " six")
        >>> sweep(model, pair, "resid_pre", metric="logit").axes
        ('layer', 'position')
    """
    choices = Choices(layers, positions, heads, neurons, keys)
    asked = prepare(model, pairs, site, choices, direction, metric)
    filling = Filling(patch_with, asked.texts(reference), noise_std, seed)
    values, unpatched = patched_values(asked, filling, memory_gb=memory_gb, on_step=on_step)
    return asked.result(values, unpatched, patch_with, seed)


def patched_values(
    asked: Question,
    filling: Filling,
    *,
    memory_gb: float | None = None,
    on_step: OnStep | None = None,
    only: Container[int] | None = None,
) -> tuple[Array, Array]:
    """The metric of every cell of a plan, [cell, pair], and of the two unpatched runs, [2, pair].

    Args:
        only: the numbers of the cells to run; the others stay NaN.
    """
    n_cells, n_pairs = asked.plan.n_cells, len(asked.pairs)
    n_run = n_cells if only is None else sum(i in only for i in range(n_cells))
    steps = _Steps(on_step, n_run * n_pairs)
    values = np.full((n_cells, n_pairs), np.nan)
    unpatched = np.full((2, n_pairs), np.nan)
    for group in asked.groups:
        base, sources, (clean, corrupted) = _runs_of(asked, group, filling)
        own = [asked.pairs[i] for i in group.pairs]
        answers, columns = answers_of(own, asked.measure, clean)
        for side, logits in enumerate((clean, corrupted)):
            seen = logits if columns is None else logits[:, columns]
            unpatched[side, list(group.pairs)] = asked.measure(seen, answers).cpu()
        index, cells = asked.plan.cells(group, only)
        found = run_cells(
            base,
            cells,
            sources,
            _reader(asked.measure, answers, cells),
            columns=columns,
            idle=_idle(group, cells) if filling.kind == "other run" else (),
            memory_gb=memory_gb,
            on_step=steps.of_part(len(cells)),
        )
        values[index, np.array(group.pairs)[[cell.row for cell in cells]]] = found
    return values, unpatched


def _runs_of(
    asked: Question, group: Group, filling: Filling
) -> tuple[Base, Sources, tuple[Tensor, Tensor]]:
    """The run that is patched, what is put in, and the logits of the clean and corrupted run."""
    model, plan, other = asked.model, asked.plan, group.other
    base = record_base(model, group.tokens, attention_mask=group.mask)
    logits, cache = model.run_with_cache(
        other.tokens,
        plan.places,
        attention_mask=other.mask,
        last_logits_only=plan.site != "logits",
    )
    own = replace(filling, seed=filling.seed + 7919 * group.pairs[0])
    sources = make_sources(base, other, cache, plan.places, own)
    last = logits[:, -1]
    runs = (last, base.logits) if asked.direction == "denoise" else (base.logits, last)
    return base, sources, runs


def _idle(group: Group, cells: Sequence[Cell]) -> set[int]:
    """Cells before the first token that differs: so far the two runs are one and the same.

    Where the prompts differ in length or padding, positions are not counted alike, and none is.
    """
    tokens, other = group.tokens, group.other
    if tokens.shape != other.tokens.shape or group.mask is not None or other.mask is not None:
        return set()
    same = (tokens == other.tokens) & (other.position == torch.arange(tokens.shape[1]).to(tokens))
    shared = same.long().cumprod(dim=1).sum(dim=1).tolist()
    return {
        i
        for i, cell in enumerate(cells)
        if all(
            w.positions is not None
            and all(p % tokens.shape[1] < shared[cell.row] for p in w.positions)
            for w in cell.writes
        )
    }


def _reader(
    measure: Metric, answers: Answers, cells: Sequence[Cell]
) -> Callable[[Float[Tensor, "n column"], Int[Tensor, " n"]], Float[Tensor, " n"]]:
    rows = torch.tensor([cell.row for cell in cells], device=answers.answer.device)
    return lambda logits, index: measure(logits, answers.rows(rows[index.to(rows.device)]))


class _Steps:
    """Progress over several groups of pairs, as one count."""

    def __init__(self, on_step: OnStep | None, n: int) -> None:
        self.on_step, self.n, self.before = on_step, n, 0

    def of_part(self, size: int) -> OnStep | None:
        """The callback for the next part."""
        if self.on_step is None:
            return None
        before, self.before = self.before, self.before + size
        on_step = self.on_step
        return lambda done, _: on_step(before + done, self.n)
