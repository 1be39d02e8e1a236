"""Is the tuned lens nearer to the model than the logit lens, at every layer?

KL(model || lens) on text held out from training, at every depth before the output. Belrose et al.
2023 (arXiv 2303.08112), figure 4. It does not show that the tuned lens reads what the model
*believes* there: a translator may also have learnt what the later blocks usually add.
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
    key="tuned_below_logit",
    title="The tuned lens is nearer to the model at every layer",
    claim="The tuned lens has a lower KL from the model than the logit lens at every layer, and "
    "varies little between training seeds.",
    formula="E[KL(model || lens)] over held-out tokens, by depth.",
    source="Belrose et al. 2023 (arXiv 2303.08112), figure 4: every family and size from 70M to "
    "20B parameters",
    control="Several training seeds; each must win, on the same documents.",
    criterion="For every seed and depth the interval of the paired difference, logit minus tuned, "
    "lies above 0.",
    does_not_show="That the state already holds what the lens says: an affine map is trained, and "
    "may add what usually follows. The shuffled-target control bounds how much it adds by itself.",
)


def replicate_tuned_below_logit(
    evaluation: LensEvaluation, *, logit: str = "logit", tuned: tuple[str, ...]
) -> Replication:
    """See `CLAIM`; ``evaluation`` holds the logit lens and a tuned one for each seed."""
    figures: list[Figure] = []
    for name in (logit, *tuned):
        figures += estimates("KL", name, evaluation.estimate(name, "kl_nats"), evaluation, "nats")
    gaps = [evaluation.difference(logit, name, "kl_nats") for name in tuned]
    holds = all(bool((gap.low > 0).all()) for gap in gaps)
    base = evaluation.estimate(logit, "kl_nats").mean
    ratios = [evaluation.estimate(name, "kl_nats").mean / base for name in tuned]
    by_depth = ", ".join(
        f"{sum(r[d] for r in ratios) / len(ratios):.2f}" for d in range(len(evaluation.depths))
    )
    n_won = sum(int((gap.low > 0).sum()) for gap in gaps)
    shown = (
        f"tuned is below logit at {n_won} of {len(tuned) * len(evaluation.depths)} depths and "
        f"seeds; its KL as a share of the logit lens's, by depth: {by_depth}."
    )
    return Replication.judged(
        CLAIM,
        figures,
        holds,
        shown,
        evaluation.model_name,
        {
            "seeds": list(tuned),
            "n_tokens": evaluation.n_tokens,
            "n_documents": evaluation.n_documents,
        },
    )
