"""Stimulus-response alignment: does the lens foresee how the model answers a change?

The contribution of one block is replaced by the one of another row at the same position (resample
ablation). The *stimulus* is the change of the lens's log-probabilities right after that block, the
*response* the change of the model's own. Their alignment is the cosine of Aitchison geometry,

    <x, y>_w = sum_i w_i clr_w(x)_i clr_w(y)_i,   clr_w(x) = x - sum_i w_i x_i,

with the model's own probabilities as weights, so that it asks about the tokens that count.
Belrose et al. 2023 (arXiv 2303.08112), section 4.2; the published package no longer holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

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
from lens_core.lens.result import Array
from lens_core.lens.transports import LogitLens, Transport

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

CLAIM = Claim(
    key="stimulus_response",
    title="The tuned lens foresees how the model answers a change",
    claim="When a block's contribution is exchanged, the change seen through the tuned lens points "
    "more nearly where the model's output goes than the change seen through the logit lens, at "
    "every layer; both agree better in later layers.",
    formula="Mean over tokens of <stimulus, response> / (|stimulus| |response|) in Aitchison "
    "geometry weighted by the model's probabilities; stimulus and response are changes of "
    "log-probability.",
    source="Belrose et al. 2023 (arXiv 2303.08112), section 4.2: Pythia-160M, tuned above logit at "
    "all layers",
    control="Pairs shuffled: the stimulus of one token with the response of another row's.",
    criterion="At every depth before the last the mean alignment of the tuned lens is above that "
    "of the logit lens (interval of the difference above 0), and above its shuffled pairs.",
    does_not_show="That the lens reads what the later blocks read: a cosine forgives any error of "
    "size, and exchanged contributions are states that the model never makes.",
)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Aitchison cosine of stimulus and response at each token, one depth.

    ``aligned`` and ``shuffled`` are [token] by the lens's name; ``response_nats`` [token] is
    KL(model || model changed).
    """

    depth: int
    aligned: Mapping[str, Array]
    shuffled: Mapping[str, Array]
    response_nats: Array

    def to_frame(self) -> pd.DataFrame:
        """One line a token and lens."""
        import pandas as pd

        return pd.concat(
            pd.DataFrame(
                {
                    "depth": self.depth,
                    "lens": name,
                    "alignment": self.aligned[name],
                    "shuffled_alignment": self.shuffled[name],
                    "response_nats": self.response_nats,
                }
            )
            for name in self.aligned
        )


def aitchison_cosine(
    x: Float[Tensor, "token d_vocab"],
    y: Float[Tensor, "token d_vocab"],
    weights: Float[Tensor, "token d_vocab"],
) -> Float[Tensor, " token"]:
    """Weighted Aitchison cosine of two changes of log-probability; constants do not count.

    >>> x = torch.tensor([[1.0, 0.0, -1.0]])
    >>> aitchison_cosine(x, 2 * x + 5, torch.full((1, 3), 1 / 3)).item()
    1.0
    """
    x = x - (weights * x).sum(-1, keepdim=True)
    y = y - (weights * y).sum(-1, keepdim=True)
    inner = (weights * x * y).sum(-1)
    size = ((weights * x * x).sum(-1) * (weights * y * y).sum(-1)).sqrt()
    return inner / size.clamp(min=1e-12)


def stimulus_response(
    model: HookedModel,
    lenses: Mapping[str, Transport],
    sample: Sample,
    depth: int,
    *,
    seed: int = 0,
) -> Alignment:
    """Exchange the contribution of the block before ``depth``; align what lens and model do.

    Args:
        depth: 1 to n_layers; block ``depth - 1`` is exchanged.
    """
    n = len(sample.tokens)
    generator = torch.Generator().manual_seed(seed)
    partner = _derangement(n, generator)
    with torch.no_grad():
        states = states_of(model, sample, [depth - 1, depth])
        added = states[depth] - states[depth - 1]
        treated = states[depth].clone()
        treated[:, 1:] = (states[depth - 1] + added[partner])[:, 1:]
        control = final_logprobs(model, sample, states[depth], depth)
        response = final_logprobs(model, sample, treated, depth) - control
        weights = control.exp()
        per_row = len(sample) // n
        other = (_derangement(n, generator)[:, None] * per_row + torch.arange(per_row)).ravel()
        aligned, shuffled = {}, {}
        for name, lens in lenses.items():
            before = lens_logprobs(model, lens, sample.at(states[depth]), depth)
            stimulus = lens_logprobs(model, lens, sample.at(treated), depth) - before
            aligned[name] = aitchison_cosine(stimulus, response, weights).cpu().numpy()
            shuffled[name] = aitchison_cosine(stimulus[other], response, weights).cpu().numpy()
        kl = -(weights * response).sum(-1)
    return Alignment(depth, aligned, shuffled, kl.cpu().numpy())


def _derangement(n: int, generator: torch.Generator) -> Tensor:
    """A random cycle: nobody is their own partner."""
    order = torch.randperm(n, generator=generator)
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner


def replicate_stimulus_response(
    model: HookedModel,
    lens: Transport,
    rows: Rows,
    *,
    n_rows: int = 48,
    n_positions: int = 8,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Replication:
    """See `CLAIM`; ``lens`` is the tuned one, ``rows`` were not used to train it."""
    sample = Sample.of(model, rows, n_rows, n_positions, seed)
    lenses = {"tuned": lens, "logit": LogitLens()}
    figures: list[Figure] = []
    met = []
    # After the last block stimulus and response are the same thing under any lens.
    depths = range(1, model.cfg.n_layers)
    for done, depth in enumerate(depths, start=1):
        at = stimulus_response(model, lenses, sample, depth, seed=seed)
        found, ok = _figures(at, sample, seed)
        figures += found
        met.append(ok)
        if on_step is not None:
            on_step(done, len(depths))
    means = {
        name: np.mean([f.value for f in figures if f.series == name])
        for name in ("tuned", "logit", "tuned, shuffled")
    }
    shown = (
        f"alignment, mean over depths, {means['tuned']:.2f} tuned and {means['logit']:.2f} logit, "
        f"shuffled pairs {means['tuned, shuffled']:.2f}; the criterion holds at {sum(met)} of "
        f"{len(met)} depths."
    )
    return Replication.judged(
        CLAIM,
        figures,
        all(met),
        shown,
        model.cfg.name,
        {"seed": seed, "n_rows": len(sample.tokens), "n_tokens": len(sample), "lens": lens.name},
    )


def _figures(at: Alignment, sample: Sample, seed: int) -> tuple[list[Figure], bool]:
    series = {
        "tuned": at.aligned["tuned"],
        "logit": at.aligned["logit"],
        "tuned, shuffled": at.shuffled["tuned"],
        "logit, shuffled": at.shuffled["logit"],
    }
    figures = []
    for name, values in series.items():
        mean = mean_over_documents(values, sample.documents, seed=seed)
        figures.append(Figure.of("alignment", name, mean, depth=at.depth))
    gaps = [
        mean_over_documents(gap, sample.documents, seed=seed)
        for gap in (
            at.aligned["tuned"] - at.aligned["logit"],
            at.aligned["tuned"] - at.shuffled["tuned"],
        )
    ]
    return figures, all(bool(gap.low > 0) for gap in gaps)
