"""Ablation: what happens to an answer without some heads or MLPs, and by which path.

    from lens_core.attribution import ablate, ablate_each_head

    effect = ablate(model, prompt, [(3, 1), (5, "mlp")], " Paris", " Rome")
    print(effect.total_effect, effect.direct_effect, effect.indirect_effect)

What it answers: how much the answer changes when a part writes something else. Zero is a value
that later parts have never seen; the mean over a corpus or another prompt's value (resample) is
nearer to "without the information". Later parts may make up for what is missing, so a small effect
does not show that a part does nothing.

After Wang et al. 2022 (arXiv 2211.00593, mean ablation), Chan et al., "Causal scrubbing" (2022,
resample ablation), and McGrath et al., "The Hydra effect" (2023, arXiv 2307.15771).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from lens_core.attribution.effects import (
    Ablation,
    AblationKind,
    HeadEffects,
    InterventionEffect,
    PartName,
)

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Corpus = Sequence[str | Int[Tensor, "1 pos"]]


def ablate(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    parts: Sequence[PartName],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    kind: AblationKind = "zero",
    corpus: Corpus | None = None,
    seed: int = 0,
    n_draws: int = 8,
    position: int = -1,
    positions: Sequence[int] | None = None,
    top_k: int = 5,
    interventions: Iterable[Intervention] = (),
) -> Ablation:
    """Replace what some heads and MLPs write, and compare the answers.

    Args:
        parts: (layer, head), (layer, "mlp") or (layer, "attn"), together.
        target, foil, position: the question, as in `direct_logit_attribution`.
        kind: "zero": the part writes nothing (of a head: its z is zero; the biases of attention
            stay; of an MLP or a whole attention, all it writes is zero). "mean": its mean over all
            tokens of the corpus. "resample": what it wrote at the same positions of another prompt
            of the corpus, for `n_draws` prompts (all, if there are fewer), drawn by `seed`.
        corpus: prompts; for resample those with at least as many tokens as this one are used.
        positions: where to ablate; None: at every position.
        interventions: apply in both runs, before the ablation.

    Raises:
        AblationError: no such part, no corpus where one is needed, or none of its prompts is long
            enough.
        AttributionError, TokenError: as `direct_logit_attribution`.
    """
    raise NotImplementedError


def ablate_each_head(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    kind: AblationKind = "zero",
    corpus: Corpus | None = None,
    seed: int = 0,
    n_draws: int = 8,
    position: int = -1,
    interventions: Iterable[Intervention] = (),
) -> HeadEffects:
    """`ablate` for every head by itself, at every position, in one batch a layer.

    The arguments and errors are those of `ablate`.
    """
    raise NotImplementedError


def intervention_effect(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    edits: Iterable[Intervention],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    position: int = -1,
    top_k: int = 5,
    interventions: Iterable[Intervention] = (),
) -> InterventionEffect:
    """The answer and every head's attention with and without some edits, such as a blocked edge.

    Args:
        edits: what to compare: in the second run only, after `interventions`, which are in both.
        target: None: the best guess before the edits.
    """
    raise NotImplementedError


def block_attention(
    layer: int,
    head: int | Sequence[int] | None = None,
    dest: int | Sequence[int] | None = None,
    src: int | Sequence[int] | None = None,
    *,
    renormalise: bool = False,
) -> Intervention:
    """An intervention that stops heads of a layer from moving information along some edges.

    One edge (dest and src), a column (src: nothing is read from it), a row (dest: it reads
    nothing), or a whole head (neither).

    Args:
        head: None: every head of the layer.
        dest, src: positions attending and attended to; None: all.
        renormalise: False: the pattern's cells become zero and the row sums to less than one, so
            that the other edges carry what they carried. True: the scores' cells are blocked before
            the softmax, and the row's other weights grow to make up for it (a row in which nothing
            else is left keeps its weights).

    Raises:
        AblationError: src is after dest, or renormalise without src.

    Example:
        >>> str(block_attention(3, 1, dest=7, src=2))
        'block attention pattern[3] (positions=[7], heads=[1], keys=[2])'
    """
    raise NotImplementedError
