"""Logit, bias-only, affine: does each larger family of lenses come nearer to the model?

The logit lens is the bias-only lens with b = 0, and that is the tuned lens with W = 0, so that
held-out KL must fall along the three unless training fails or overfits. How much of the fall comes
with the bias is the part of "drift" that is a constant; the rest is a change of basis. Belrose et
al. 2023 (arXiv 2303.08112), sections 2 and 3, and the ``--bias_only`` option of its package. It
does not show why the basis changes.
"""

from __future__ import annotations

from lens_core.lens.evaluation import LensEvaluation
from lens_core.lens.replications.result import (
    Claim,
    Figure,
    Replication,
    estimates,
)

CLAIM = Claim(
    key="nested_lenses",
    title="A bias helps, a whole affine map helps more",
    claim="The logit lens fails because representations drift from layer to layer: adding a "
    "learned bias brings it nearer to the model, a learned affine map nearer still.",
    formula="E[KL(model || lens)] of h, h + b and h + W h + b, trained alike, by depth.",
    source="Belrose et al. 2023 (arXiv 2303.08112), sections 2 and 3",
    control="The families are nested and trained with the same tokens, so a wrong order would mean "
    "overfitting or failed training.",
    criterion="At every depth both intervals of the paired differences, logit minus bias-only and "
    "bias-only minus affine, lie at or above 0.",
    does_not_show="That a change of basis is all that is left: both families also learn what later "
    "blocks usually add.",
)


def replicate_nested_lenses(
    evaluation: LensEvaluation,
    *,
    logit: str = "logit",
    bias_only: str = "bias-only",
    affine: str = "tuned",
) -> Replication:
    """See `CLAIM`; the three names are lenses of the evaluation."""
    figures: list[Figure] = []
    for name, series in ((logit, "logit"), (bias_only, "bias-only"), (affine, "affine")):
        found = evaluation.estimate(name, "kl_nats")
        figures += estimates("KL", series, found, evaluation, "nats")
    first = evaluation.difference(logit, bias_only, "kl_nats")
    second = evaluation.difference(bias_only, affine, "kl_nats")
    holds = bool((first.low >= 0).all() and (second.low >= 0).all())
    share = first.mean / (first.mean + second.mean)
    shown = (
        f"logit is above bias-only at {int((first.low > 0).sum())} and bias-only above affine at "
        f"{int((second.low > 0).sum())} of {len(evaluation.depths)} depths; the bias alone gives "
        + ", ".join(f"{s:.0%}" for s in share)
        + " of the gain, by depth."
    )
    return Replication.judged(
        CLAIM,
        figures,
        holds,
        shown,
        evaluation.model_name,
        {"n_tokens": evaluation.n_tokens, "n_documents": evaluation.n_documents},
    )
