"""Prediction depth against loss: are the tokens that the model settles late the harder ones?

The prediction depth of a token is the depth from which on the lens's best guess is the model's
final one (Baldock et al. 2021, arXiv 2106.09647). Belrose et al. 2023 (arXiv 2303.08112, section
5.2, table 2) relate it to how late in training an example is learned; here it is related to the
model's own loss on the next token, which is what "difficult" means without a training history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lens_core.bootstrap import (
    over_documents,
    ranks,
    spearman_over_documents,
)
from lens_core.lens.corpus import Rows
from lens_core.lens.read import OnStep
from lens_core.lens.replications.result import Claim, Figure, Replication
from lens_core.lens.replications.states import (
    Sample,
    final_logprobs,
    lens_logprobs,
    states_of,
)
from lens_core.lens.result import Array
from lens_core.lens.transports import LogitLens, Transport

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

CLAIM = Claim(
    key="prediction_depth",
    title="What is settled late is harder",
    claim="Prediction depth under the tuned lens grows with an example's difficulty.",
    formula="Spearman's rho over tokens of prediction depth and the model's loss on the next "
    "token; beside it the rank correlation with the entropy of the model's output held fixed.",
    source="Belrose et al. 2023 (arXiv 2303.08112), section 5.2: depth against the iteration at "
    "which an example is learned, positive on 11 of 11 tasks. Another measure of difficulty here",
    control="Depths shuffled among the tokens.",
    criterion="The rank correlation's interval lies above 0 for the tuned lens, and the shuffled "
    "one's does not.",
    does_not_show="That late layers are spent on hard tokens: depth and loss both follow how "
    "undecided the output is, and the partial correlation says how much is left without that. "
    "Where the final answer is a near tie, depth is late by chance.",
)


@dataclass(frozen=True, eq=False)
class Difficulty:
    """Tokens with their prediction depth under each lens, loss and final entropy.

    ``depths`` is [token] by the lens's name, 0 to n_layers; the rest [token], in nats.
    """

    depths: Mapping[str, Array]
    loss_nats: Array
    entropy_nats: Array
    documents: Array

    def to_frame(self) -> pd.DataFrame:
        """One line a token."""
        import pandas as pd

        depths = {f"prediction_depth_{name}": depth for name, depth in self.depths.items()}
        return pd.DataFrame(
            {
                "document": self.documents,
                "loss_nats": self.loss_nats,
                "entropy_nats": self.entropy_nats,
                **depths,
            }
        )


def token_difficulty(
    model: HookedModel,
    lenses: Mapping[str, Transport],
    sample: Sample,
    *,
    on_step: OnStep | None = None,
) -> Difficulty:
    """Prediction depth and loss of every token of the sample, one depth at a time."""
    n_layers = model.cfg.n_layers
    with torch.no_grad():
        final = final_logprobs(model, sample)
        answer = final.argmax(-1)
        loss = -final.gather(-1, sample.next_ids().to(final.device)[:, None])[:, 0]
        entropy = -torch.special.xlogy(final.exp(), final.exp()).sum(-1)
        states = states_of(model, sample, range(n_layers))
        agrees: dict[str, list[torch.Tensor]] = {name: [] for name in lenses}
        for depth, whole in states.items():
            for name, lens in lenses.items():
                read = lens_logprobs(model, lens, sample.at(whole), depth)
                agrees[name].append(read.argmax(-1) == answer)
            if on_step is not None:
                on_step(depth + 1, n_layers)
    return Difficulty(
        depths={name: _settled(torch.stack(rows).cpu().numpy()) for name, rows in agrees.items()},
        loss_nats=loss.cpu().numpy(),
        entropy_nats=entropy.cpu().numpy(),
        documents=sample.documents,
    )


def _settled(agrees: Array) -> Array:
    """First row from which on all agree, [row, token] to [token]; the output itself always does."""
    kept = np.logical_and.accumulate(agrees[::-1], axis=0)
    return len(agrees) - kept.sum(0)


def partial_spearman(x: Array, y: Array, given: Array) -> float:
    """Rank correlation of x and y with the ranks of a third held fixed."""
    a, b, c = ranks(x), ranks(y), ranks(given)
    c = np.stack([np.ones_like(c), c], axis=1)

    def left(v: Array) -> Array:
        return np.asarray(v - c @ np.linalg.lstsq(c, v, rcond=None)[0])

    p, q = left(a), left(b)
    norm = float(np.sqrt((p * p).sum() * (q * q).sum()))
    return float((p * q).sum() / norm) if norm > 1e-9 * len(p) else 0.0


def replicate_prediction_depth(
    model: HookedModel,
    lens: Transport,
    rows: Rows,
    *,
    n_rows: int = 96,
    n_positions: int = 16,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Replication:
    """See `CLAIM`; ``lens`` is the tuned one, ``rows`` were not used to train it."""
    sample = Sample.of(model, rows, n_rows, n_positions, seed)
    found = token_difficulty(model, {"tuned": lens, "logit": LogitLens()}, sample, on_step=on_step)
    loss, entropy = found.loss_nats, found.entropy_nats
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(found.depths["tuned"])
    series = {**found.depths, "tuned, shuffled": shuffled}
    figures = []
    for name, depth in series.items():
        rho = spearman_over_documents(depth, loss, found.documents, seed=seed)
        figures.append(Figure.of("rank correlation", name, rho))
    partial = over_documents(
        lambda i: partial_spearman(found.depths["tuned"][i], loss[i], entropy[i]),
        found.documents,
        seed=seed,
    )
    figures.append(Figure.of("rank correlation, entropy held fixed", "tuned", partial))
    tuned, logit, control, without = figures
    holds = tuned.low > 0 and not control.low > 0
    shown = (
        f"rank correlation of depth and loss {tuned.value:.2f} ({tuned.low:.2f} to "
        f"{tuned.high:.2f}) under the tuned lens, {logit.value:.2f} under the logit lens, "
        f"{control.value:.2f} shuffled; {without.value:.2f} ({without.low:.2f} to "
        f"{without.high:.2f}) with the output's entropy held fixed."
    )
    return Replication.judged(
        CLAIM,
        figures,
        holds,
        shown,
        model.cfg.name,
        {"seed": seed, "n_rows": len(sample.tokens), "n_tokens": len(sample), "lens": lens.name},
    )
