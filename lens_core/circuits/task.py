"""The indirect-object task made ready: prompts and stand-ins, kept for the last few questions."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from lens_core.circuits.circuit import every_node
from lens_core.circuits.evidence import HeadEvidence, head_evidence
from lens_core.circuits.ioi import Distractor, Order, ioi_dataset
from lens_core.circuits.knockout import Ablation, Knockouts, Measure

if TYPE_CHECKING:
    from lens_core import HookedModel

_KEPT = 8


@lru_cache(maxsize=_KEPT)
def ioi_knockouts(
    model: HookedModel,
    n: int = 32,
    *,
    orders: tuple[Order, ...] = ("ABBA", "BABA"),
    distractor: Distractor | None = None,
    ablation: Ablation = "mean",
    measure: Measure = "logit difference",
    n_reference: int = 32,
    seed: int = 0,
) -> Knockouts:
    """`Knockouts` on the prompts of `ioi_dataset`; asked again, it is the same object.

    The stand-ins come from `n_reference` runs a template, which take longer than scoring a circuit
    does. The arguments are those of the two; errors too.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> ioi_knockouts(model, 8) is ioi_knockouts(model, 8)
        True
    """
    dataset = ioi_dataset(
        model, n, orders=orders, distractor=distractor, n_reference=n_reference, seed=seed
    )
    return Knockouts(model, dataset, ablation=ablation, measure=measure, seed=seed)


@lru_cache(maxsize=_KEPT)
def ioi_evidence(knockouts: Knockouts) -> HeadEvidence:
    """`head_evidence` of every head on these prompts; asked again, it is the same object."""
    return head_evidence(knockouts.model, knockouts.dataset, every_node(knockouts.model))
