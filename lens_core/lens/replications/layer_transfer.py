"""Does a translator trained for one layer serve another, and does likeness of states say so?

The penalty of using depth i's translator on depth j's states is how much its cross-entropy to the
next token exceeds that of j's own. The likeness of two depths is the cosine, in Frobenius' inner
product, of the covariance matrices of their states. Belrose et al. 2023 (arXiv 2303.08112), section
3.2. It does not show that covariance causes transfer: both change with the distance in layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from lens_core.bootstrap import (
    mean_over_documents,
    over_documents,
    spearman,
)
from lens_core.lens.corpus import Rows
from lens_core.lens.evaluate import layer_transfer
from lens_core.lens.read import OnStep
from lens_core.lens.replications.result import Claim, Figure, Replication
from lens_core.lens.replications.states import Sample, states_of
from lens_core.lens.result import Array
from lens_core.lens.transports import Transport

if TYPE_CHECKING:
    from lens_core import HookedModel

CLAIM = Claim(
    key="layer_transfer",
    title="Translators serve the layers whose states are alike",
    claim="A translator serves its own layer best, and the penalty on another layer grows as the "
    "covariances of their states differ.",
    formula="Spearman's rho over pairs of depths i != j of CE(translator i on states j) - "
    "CE(translator j on states j) and cos(Cov_i, Cov_j).",
    source="Belrose et al. 2023 (arXiv 2303.08112), section 3.2: rho = -0.78 on Pythia-12B",
    control="The depths' names shuffled in one of the two matrices (a Mantel test): the share of "
    "shuffles that correlate as negatively.",
    criterion="No translator is better than a depth's own (no interval of a penalty below 0), the "
    "correlation's interval lies below 0, and at most 5% of shuffles reach it.",
    does_not_show="That likeness of covariances is the cause: distance in layers goes with both.",
)
_N_SHUFFLES = 500


def covariance_likeness(states: dict[int, torch.Tensor]) -> Array:
    """Cosine of the covariance matrices of [token, d_model] states, [depth, depth]."""
    flat = torch.stack([torch.cov(states[depth].T).flatten() for depth in sorted(states)])
    unit = torch.nn.functional.normalize(flat, dim=-1)
    return np.asarray((unit @ unit.T).cpu())


def replicate_layer_transfer(
    model: HookedModel,
    lens: Transport,
    rows: Rows,
    *,
    n_rows: int = 16,
    n_groups: int = 8,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Replication:
    """See `CLAIM`; intervals resample ``n_groups`` groups of whole documents."""
    n_layers = model.cfg.n_layers
    penalties = _penalties(model, lens, rows, n_rows, n_groups, on_step)
    sample = Sample.of(model, rows, 4 * n_rows, 8, seed)
    with torch.no_grad():
        states = {d: sample.at(s) for d, s in states_of(model, sample, range(n_layers)).items()}
    likeness = covariance_likeness(states)
    apart = ~np.eye(n_layers, dtype=bool)
    groups = np.arange(len(penalties))
    rho = over_documents(
        lambda i: spearman(penalties[i].mean(0)[apart], likeness[apart]), groups, seed=seed
    )
    each = over_documents(lambda i: penalties[i].mean(0), groups, seed=seed)
    mean = over_documents(lambda i: penalties[i].mean(0)[apart].mean(), groups, seed=seed)
    reached = _mantel(penalties.mean(0), likeness, seed)
    figures = [
        Figure.of("rank correlation", "penalty and likeness", rho),
        Figure.of("penalty", "mean of pairs", mean, "nats"),
        Figure("shuffles as negative", "control", reached, reached, reached, _N_SHUFFLES),
        *_by_distance(penalties, seed),
    ]
    better = int((each.high[apart] < 0).sum())
    holds = better == 0 and bool(rho.high < 0) and reached <= 0.05
    shown = (
        f"rank correlation of penalty and likeness {float(rho.value):.2f} ({float(rho.low):.2f} to "
        f"{float(rho.high):.2f}), reached by {reached:.1%} of shuffles; another translator is "
        f"better than a depth's own in {better} of {int(apart.sum())} pairs; mean penalty "
        f"{float(mean.value):.2f} nats."
    )
    return Replication.judged(
        CLAIM,
        figures,
        holds,
        shown,
        model.cfg.name,
        {"seed": seed, "n_rows": n_rows, "n_groups": len(penalties), "lens": lens.name},
    )


def _penalties(
    model: HookedModel,
    lens: Transport,
    rows: Rows,
    n_rows: int,
    n_groups: int,
    on_step: OnStep | None,
) -> Array:
    """Penalties in nats of groups of documents, [group, translator, state]."""
    documents = rows.documents.unique()
    found = []
    for n in range(n_groups):
        mine = torch.isin(rows.documents, documents[n::n_groups]).nonzero()[:, 0]
        group = rows.take(mine[: max(1, n_rows // n_groups)])
        found.append(layer_transfer(model, lens, group).penalty_nats)
        if on_step is not None:
            on_step(n + 1, n_groups)
    return np.stack(found)


def _by_distance(penalties: Array, seed: int) -> list[Figure]:
    """The mean penalty of depths so many layers apart; ``depth`` is that distance."""
    n = penalties.shape[1]
    i, j = np.indices((n, n))
    figures = []
    for distance in range(1, n):
        of_group = penalties[:, abs(i - j) == distance].mean(1)
        at = mean_over_documents(of_group, np.arange(len(of_group)), seed=seed)
        figures.append(Figure.of("penalty by distance", "pairs", at, "nats", distance))
    return figures


def _mantel(penalty: Array, likeness: Array, seed: int) -> float:
    """Share of shuffles of the depths' names with a correlation as negative."""
    apart = ~np.eye(len(penalty), dtype=bool)
    observed = spearman(penalty[apart], likeness[apart])
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(_N_SHUFFLES):
        order = rng.permutation(len(penalty))
        hits += spearman(penalty[apart], likeness[np.ix_(order, order)][apart]) <= observed
    return (hits + 1) / (_N_SHUFFLES + 1)
