"""Is the logit lens biased, and is the bias gone from the tuned lens?

The bias of a lens at a depth is KL(p || q), where p is the model's mean distribution over all
tokens and q the lens's: an unbiased lens names every token as often as the model does. Belrose et
al. 2023 (arXiv 2303.08112), section 3.1 and figure 3. It does not show that a lens is right on any
single token: the unigram distribution itself has no bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lens_core.bootstrap import Interval
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
    key="marginal_bias",
    title="The logit lens is biased, the tuned lens hardly",
    claim="Averaged over text, the logit lens puts its probability on other tokens than the model "
    "does at most layers; the tuned lens does not.",
    formula="KL(mean of model's distributions || mean of the lens's), in bits, by depth.",
    source="Belrose et al. 2023 (arXiv 2303.08112), figure 3: 4 to 5 bits at most layers of "
    "GPT-Neo-2.7B under the logit lens, near 0 under the tuned lens",
    control="Two floors: the model's mean distribution on one half of the documents against the "
    "other half (noise), and the text's own token frequencies against the model's mean.",
    criterion="At every depth the interval of the difference, logit minus tuned, lies above 0, and "
    "the tuned lens's bias, mean over depths, is below half of the logit lens's.",
    does_not_show="That the lens is right on any token. With few tokens both biases also hold "
    "noise; the first floor says how much.",
)
_N_RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class MarginalBias:
    """Bias in bits by lens, with its interval, arrays over depths; and the two floors.

    ``excess`` is logit minus tuned, where there are lenses of these names.
    """

    depths: tuple[int, ...]
    bias_bits: Mapping[str, Interval]
    excess_bits: Interval
    halves_floor_bits: Interval
    unigram_floor_bits: Interval

    def to_frame(self) -> pd.DataFrame:
        """One line a lens and depth."""
        import pandas as pd

        return pd.concat(
            pd.DataFrame(
                {
                    "lens": name,
                    "depth": self.depths,
                    "bias_bits": at.value,
                    "bias_bits_low": at.low,
                    "bias_bits_high": at.high,
                }
            )
            for name, at in self.bias_bits.items()
        )


def marginal_bias(
    model: HookedModel,
    tuned: Transport,
    sample: Sample,
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> MarginalBias:
    """Bias of the logit lens and of another, on the same tokens."""
    n_layers = model.cfg.n_layers
    lenses: dict[str, Transport] = {"logit": LogitLens(), "tuned": tuned}
    documents, owner = np.unique(sample.documents, return_inverse=True)
    weights = _resamples(len(documents), seed)
    group = torch.from_numpy(owner)

    def totals(probs: torch.Tensor) -> Array:
        sums = torch.zeros(len(documents), probs.shape[-1])
        return sums.index_add_(0, group, probs.float().cpu()).numpy()

    with torch.no_grad():
        of_model = totals(final_logprobs(model, sample).exp())
        drawn_model = _normalised(weights @ of_model)
        states = states_of(model, sample, range(n_layers))
        biases: dict[str, list[Array]] = {name: [] for name in lenses}
        for depth, whole in states.items():
            for name, lens in lenses.items():
                read = lens_logprobs(model, lens, sample.at(whole), depth)
                of_lens = _normalised(weights @ totals(read.exp()))
                biases[name].append(_kl_bits(drawn_model, of_lens))
            if on_step is not None:
                on_step(depth + 1, n_layers)
    drawn = {name: np.stack(rows, axis=1) for name, rows in biases.items()}
    followers = torch.nn.functional.one_hot(sample.next_ids(), model.cfg.d_vocab)
    unigram = _normalised(weights @ totals(followers))
    n = len(documents)
    first, second = of_model[::2], of_model[1::2]
    halves = _kl_bits(
        _normalised(_resamples(len(first), seed) @ first),
        _normalised(_resamples(len(second), seed + 1) @ second),
    )
    return MarginalBias(
        depths=tuple(range(n_layers)),
        bias_bits={name: _interval(rows, n) for name, rows in drawn.items()},
        excess_bits=_interval(drawn["logit"] - drawn["tuned"], n),
        halves_floor_bits=_interval(halves, n),
        unigram_floor_bits=_interval(_kl_bits(unigram, drawn_model), n),
    )


def _resamples(n: int, seed: int) -> Array:
    """How often each document counts, [resample, document]; first once each."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=_N_RESAMPLES)
    return np.concatenate([np.ones((1, n)), drawn]).astype(np.float32)


def _interval(drawn: Array, n: int) -> Interval:
    low, high = np.percentile(drawn[1:], [2.5, 97.5], axis=0)
    return Interval(drawn[0], low, high, n)


def _normalised(sums: Array) -> Array:
    return np.asarray(sums / sums.sum(-1, keepdims=True))


def _kl_bits(p: Array, q: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log2(p) - np.log2(q)), 0.0)
    return np.asarray(terms.sum(-1))


def replicate_marginal_bias(
    model: HookedModel,
    lens: Transport,
    rows: Rows,
    *,
    n_rows: int = 96,
    n_positions: int = 24,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Replication:
    """See `CLAIM`; ``lens`` is the tuned one, ``rows`` were not used to train it."""
    sample = Sample.of(model, rows, n_rows, n_positions, seed)
    found = marginal_bias(model, lens, sample, seed=seed, on_step=on_step)
    figures = [
        Figure.of("bias", name, at.at(depth), "bits", depth)
        for name, at in found.bias_bits.items()
        for depth in found.depths
    ]
    figures += [
        Figure.of("noise floor", "model, half against half", found.halves_floor_bits, "bits"),
        Figure.of("unigram floor", "text against model", found.unigram_floor_bits, "bits"),
    ]
    means = {name: float(at.value.mean()) for name, at in found.bias_bits.items()}
    above = int((found.excess_bits.low > 0).sum())
    holds = above == len(found.depths) and means["tuned"] < means["logit"] / 2
    shown = (
        f"the bias, mean over depths, is {means['logit']:.2f} bits for the logit lens and "
        f"{means['tuned']:.2f} for the tuned lens, which is lower at {above} of "
        f"{len(found.depths)} depths; noise alone is {float(found.halves_floor_bits.value):.2f} "
        f"bits, the text against the model {float(found.unigram_floor_bits.value):.2f}."
    )
    return Replication.judged(
        CLAIM,
        figures,
        holds,
        shown,
        model.cfg.name,
        {"seed": seed, "n_rows": len(sample.tokens), "n_tokens": len(sample), "lens": lens.name},
    )
