"""Does the model use what it has read? Its loss on random tokens, and on the same tokens again.

    from lens_core.attention.induction import induction_curve

    curve = induction_curve(model)                       # 32 sequences of 2 x 25 random tokens
    curve.before.copy_mean(1), curve.before.copy_mean(2)  # nats per token
    cut = induction_curve(model, interventions=[zero("z", 1, heads=[1])])
    cut.effect(2)                                        # what the second copy's loss rose by

Nothing predicts the first copy of a random sequence; what is better on the second comes from the
first. That is what induction heads do, but a fall of the loss does not show by which heads: take
heads out, and look at both copies, since a head whose loss hurts the first as well does more (or
other things) than repeat.

After Elhage et al. 2021 and Olsson et al. 2022 (arXiv 2209.11895).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attention.sequences import largest_half, repeated_random_tokens
from lens_core.model.errors import PromptTooLongError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Array = np.ndarray[Any, Any]

# So many logits at a time: 256 MB.
_LOGITS_AT_ONCE = 2**26


class Interval(NamedTuple):
    """A mean over sequences and its 95% bootstrap interval; NaN bounds for a single sequence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class LossCurve:
    """Cross-entropy of each token given all before it, in nats.

    Attributes:
        per_sequence: float64 [n, 2, half]: sequence, copy, place in the copy; NaN at the very first
            token of models that read no BOS.
        mean, low, high: [2, half], over sequences with 95% bootstrap intervals.
        resamples: [n_bootstrap, n], how much each sequence weighs in each resample.
    """

    per_sequence: Float[np.ndarray, "n copy place"]
    mean: Float[np.ndarray, "copy place"]
    low: Float[np.ndarray, "copy place"]
    high: Float[np.ndarray, "copy place"]
    resamples: Float[np.ndarray, "draw n"]

    def copy_mean(self, copy: int) -> Interval:
        """The mean loss of copy 1 or 2, its first token left out.

        That token follows one that it has not followed before, in either copy: no earlier text
        predicts it.
        """
        return _interval(self.per_sequence[:, _index(copy), 1:].mean(-1), self.resamples)

    @property
    def drop(self) -> Interval:
        """How much lower the second copy's loss is than the first's, in nats per token."""
        gap = self.per_sequence[:, 0, 1:] - self.per_sequence[:, 1, 1:]
        return _interval(gap.mean(-1), self.resamples)


@dataclass(frozen=True, eq=False)
class InductionCurve:
    """Loss on both copies of repeated random tokens, before and after interventions.

    Attributes:
        token_ids: [n, pos], the sequences as the model read them.
        half: tokens in one copy.
        uniform_nats: the loss of a model that finds every token of the vocabulary equally likely.
        before: without the interventions; after: with them, None where there were none.
        interventions: what they were, in words.
    """

    model_name: str
    token_ids: Int[np.ndarray, "n pos"]
    half: int
    seed: int
    uniform_nats: float
    before: LossCurve
    after: LossCurve | None
    interventions: tuple[str, ...]

    @property
    def n_sequences(self) -> int:
        """How many sequences the means are over, and the intervals resample."""
        return len(self.token_ids)

    def effect(self, copy: int) -> Interval:
        """How much the interventions raise the mean loss of copy 1 or 2 on the same sequences.

        Raises:
            ValueError: there were no interventions, or there is no such copy.
        """
        if self.after is None:
            raise ValueError("There is no effect without interventions; give at least one.")
        gap = self.after.per_sequence - self.before.per_sequence
        return _interval(gap[:, _index(copy), 1:].mean(-1), self.before.resamples)

    def to_frame(self) -> pd.DataFrame:
        """One line a token of a copy, before and after: mean loss in nats with its interval."""
        import pandas as pd

        curves = {"before": self.before, "after": self.after}
        copy, place = (i.ravel() for i in np.indices((2, self.half)))
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "when": when,
                        "copy": copy + 1,
                        "place": place,
                        "loss_nats": curve.mean.ravel(),
                        "low": curve.low.ravel(),
                        "high": curve.high.ravel(),
                    }
                )
                for when, curve in curves.items()
                if curve is not None
            ],
            ignore_index=True,
        )


def induction_curve(
    model: HookedModel,
    *,
    n_sequences: int = 32,
    half: int = 25,
    seed: int = 0,
    interventions: Iterable[Intervention] = (),
    n_bootstrap: int = 1000,
) -> InductionCurve:
    """The loss per token on the first and the second copy of repeated random tokens.

    ``half`` is made shorter where vocabulary or context do not hold that much; the result says how
    long it was. The same seed gives the same sequences, whatever the interventions.

    Args:
        interventions: a second run of the same sequences is made with them; the surrounding
            ``with model.interventions(...)`` counts in both.
        n_bootstrap: resamples of the sequences behind each interval.

    Raises:
        PromptTooLongError: the context does not hold two copies of two tokens.
        TokenError, InterventionError: as `repeated_random_tokens` and `HookedModel.run`.

    Example:
        >>> model = HookedModel.from_pretrained("glass-induction")
        >>> curve = induction_curve(model, n_sequences=4, half=10)
        >>> round(curve.before.copy_mean(1).value, 1), round(curve.before.copy_mean(2).value, 1)
        (3.5, 0.0)
    """
    half = min(half, largest_half(model))
    if half < 2:
        raise PromptTooLongError(
            f"{model.cfg.name} is too small for random tokens twice: it takes two different ones "
            "at least, and a context that holds both copies."
        )
    tokens = repeated_random_tokens(model, n_sequences=n_sequences, half=half, seed=seed)
    resamples = _resamples(n_sequences, n_bootstrap, seed)
    edits = tuple(interventions)
    before = _curve(_losses(model, tokens, half, ()), resamples)
    after = _curve(_losses(model, tokens, half, edits), resamples) if edits else None
    return InductionCurve(
        model_name=model.cfg.name,
        token_ids=tokens.cpu().numpy(),
        half=half,
        seed=seed,
        uniform_nats=math.log(model.cfg.d_vocab),
        before=before,
        after=after,
        interventions=tuple(str(edit) for edit in edits),
    )


def _losses(
    model: HookedModel, tokens: Int[Tensor, "n pos"], half: int, edits: tuple[Intervention, ...]
) -> Array:
    """Cross-entropy in nats, [n, 2, half]."""
    n, length = tokens.shape
    at_once = max(1, _LOGITS_AT_ONCE // (length * model.cfg.d_vocab))
    rows = []
    with torch.no_grad():
        for start in range(0, n, at_once):
            some = tokens[start : start + at_once]
            logits = model.run(some, edits)[:, :-1].float()
            wanted = some[:, 1:].to(logits.device)
            own = logits.gather(-1, wanted[..., None])[..., 0]
            rows.append((logits.logsumexp(-1) - own).cpu().double())
    losses = torch.cat(rows).numpy()
    if length == 2 * half:  # no BOS: nothing predicts the first token
        losses = np.concatenate([np.full((n, 1), np.nan), losses], axis=1)
    return np.asarray(losses.reshape(n, 2, half))


def _curve(per_sequence: Array, resamples: Array) -> LossCurve:
    n = len(per_sequence)
    mean = per_sequence.mean(0)
    low, high = _bounds(per_sequence.reshape(n, -1), resamples)
    return LossCurve(
        per_sequence, mean, low.reshape(mean.shape), high.reshape(mean.shape), resamples
    )


def _resamples(n: int, n_bootstrap: int, seed: int) -> Array:
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_bootstrap) / n


def _bounds(values: Array, resamples: Array) -> tuple[Array, Array]:
    """The 95% percentile interval of the mean over sequences, [n, ...] to twice [...]."""
    if len(values) < 2 or not len(resamples):
        unknown = np.full(values.shape[1:], np.nan)
        return unknown, unknown
    low, high = np.quantile(resamples @ values, [0.025, 0.975], axis=0)
    return low, high


def _interval(values: Array, resamples: Array) -> Interval:
    low, high = _bounds(values, resamples)
    return Interval(float(values.mean()), float(low), float(high))


def _index(copy: int) -> int:
    if copy not in (1, 2):
        raise ValueError(f"There is no copy {copy}; it is 1 or 2.")
    return copy - 1
