"""The negative control of all lens training: targets that belong to other text.

A translator trained towards what the model says of *another* row at the same position can learn
nothing of the state it reads; the best that it can do is name tokens as often as the model does on
average, whatever it reads. If it does better than that on held-out text, something leaks. This
bounds what a lens can say by its own training; it does not show that the genuine lens adds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lens_core.bootstrap import mean_over_documents
from lens_core.lens.corpus import Rows
from lens_core.lens.read import OnStep
from lens_core.lens.replications.result import Claim, Figure, Replication
from lens_core.lens.replications.states import (
    Sample,
    final_logprobs,
    lens_logprobs,
    states_of,
)
from lens_core.lens.statistics import kl_nats
from lens_core.lens.transports import Transport

if TYPE_CHECKING:
    from lens_core import HookedModel

CLAIM = Claim(
    key="shuffled_targets",
    title="Trained on other text's targets, a lens knows nothing",
    claim="What a tuned lens says comes from the state it reads: with shuffled targets it is no "
    "better than the model's mean distribution, and the genuine lens is.",
    formula="E[KL(model || lens trained on shuffled targets)] against E[KL(model || mean of the "
    "model's distributions over training text)], by depth.",
    source="A negative control of ours; Hewitt and Liang 2019 (arXiv 1909.03368) argue for such "
    "control tasks",
    control="This is one. The genuine lens, trained with the same recipe, stands beside it.",
    criterion="At every depth the shuffled lens's KL is not below 95% of the mean distribution's "
    "(upper end of the interval), and the genuine lens's is below it at every depth after the "
    "embedding.",
    does_not_show="That the genuine lens adds nothing of its own. Training begins at the logit "
    "lens, which reads the state: where it is short, a shuffled lens that is better than the mean "
    "distribution may not have forgotten that yet, and this control is then not decisive.",
)
_TOLERANCE = 0.95


def replicate_shuffled_targets(
    model: HookedModel,
    genuine: Transport,
    shuffled: Transport,
    train: Rows,
    rows: Rows,
    *,
    n_rows: int = 64,
    n_positions: int = 16,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Replication:
    """See `CLAIM`; ``shuffled`` comes from `train_on_shuffled_targets`, ``rows`` are held out."""
    n_layers = model.cfg.n_layers
    sample = Sample.of(model, rows, n_rows, n_positions, seed)
    lenses = {"shuffled": shuffled, "genuine": genuine}
    documents = sample.documents
    figures, met = [], []
    with torch.no_grad():
        of_train = final_logprobs(model, Sample.of(model, train, n_rows, n_positions, seed))
        mean = of_train.exp().mean(0).log()
        final = final_logprobs(model, sample)
        unigram = kl_nats(final, mean).cpu().numpy()
        floor = mean_over_documents(unigram, documents, seed=seed)
        for depth, whole in states_of(model, sample, range(n_layers)).items():
            kl = {
                name: kl_nats(final, lens_logprobs(model, lens, sample.at(whole), depth))
                .cpu()
                .numpy()
                for name, lens in lenses.items()
            }
            for name, values in kl.items():
                at = mean_over_documents(values, documents, seed=seed)
                figures.append(Figure.of("KL", name, at, "nats", depth))
            figures.append(Figure.of("KL", "mean distribution", floor, "nats", depth))
            knows = mean_over_documents(_TOLERANCE * unigram - kl["shuffled"], documents, seed=seed)
            gains = mean_over_documents(unigram - kl["genuine"], documents, seed=seed)
            met.append(bool(knows.low <= 0) and (depth == 0 or bool(gains.low > 0)))
            if on_step is not None:
                on_step(depth + 1, n_layers)
    holds = all(met)
    means = {
        name: sum(f.value for f in figures if f.series == name) / n_layers
        for name in ("shuffled", "genuine")
    }
    shown = (
        f"mean KL over depths {means['shuffled']:.2f} nats with shuffled targets and "
        f"{means['genuine']:.2f} with genuine ones; the mean distribution has "
        f"{float(floor.value):.2f}; the criterion holds at {sum(met)} of {n_layers} depths."
    )
    return Replication.judged(
        CLAIM,
        figures,
        holds,
        shown,
        model.cfg.name,
        {"seed": seed, "n_rows": len(sample.tokens), "n_tokens": len(sample)},
    )
