"""What the evaluation of lenses on a corpus found, with intervals over documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

MODEL = "model"  # the model itself, as a row beside the lenses
FIGURES = ("ce_nats", "kl_nats", "entropy_nats", "next_rank", "agreement")
# These need the token that follows, so that the last positions of a row do not count.
OF_LABELS = ("ce_nats", "next_rank")
_IN_NATS = tuple(name for name in FIGURES if name.endswith("_nats"))
_DRAWS_AT_ONCE = 50


class Estimate(NamedTuple):
    """A mean for each depth, and its 95% bootstrap interval over documents."""

    mean: Float[Array, " depth"]
    low: Float[Array, " depth"]
    high: Float[Array, " depth"]


@dataclass(frozen=True, eq=False)
class LensEvaluation:
    """Figures of lenses at every depth of a model on a corpus.

    Attributes:
        depths: of the lenses' rows: 0 is the embedding; the last state, which is the model's own
            answer, is the row `MODEL`.
        row_sums: for each lens (and `MODEL`, with one column) and figure of `FIGURES`, the sum over
            the counted positions of each row; NaN where the lens reads nothing.
        row_counts: for each figure the number of positions in each row.
        documents: the document of each row; intervals resample these.
        marginals: for each lens (and `MODEL`) the mean distribution over the vocabulary.
        model_halves: the model's mean distribution on either half of the documents.
        unigram: how often each token follows in this text.
    """

    model_name: str
    corpus: str
    corpus_sha256: str
    nats_to_bits_per_byte: float
    token_shift: int
    depths: tuple[int, ...]
    row_sums: Mapping[str, Mapping[str, Float[Array, "row depth"]]]
    row_counts: Mapping[str, Float[Array, " row"]]
    documents: Int[Array, " row"]
    marginals: Mapping[str, Float[Array, "depth d_vocab"]]
    model_halves: Float[Array, "2 d_vocab"]
    unigram: Float[Array, " d_vocab"]
    n_bootstrap: int
    seed: int

    @property
    def lens_names(self) -> tuple[str, ...]:
        """The lenses in the order in which they were given."""
        return tuple(name for name in self.row_sums if name != MODEL)

    @property
    def n_tokens(self) -> int:
        """Positions that were counted."""
        return int(self.row_counts["kl_nats"].sum())

    @property
    def n_documents(self) -> int:
        """Independent texts, which are what the intervals resample."""
        return len(np.unique(self.documents))

    def estimate(self, lens: str, figure: str) -> Estimate:
        """The mean of a figure of `FIGURES` at each depth.

        ``next_rank`` is 1 for the likeliest token; ``agreement`` is the share of positions where
        the best guess is the model's own.
        """
        return self._interval(self.row_sums[lens][figure], figure)

    def difference(self, first: str, second: str, figure: str) -> Estimate:
        """How much larger the figure is under the first lens, on the same documents."""
        gap = self.row_sums[first][figure] - self.row_sums[second][figure]
        return self._interval(gap, figure)

    def marginal_bias_nats(self, lens: str) -> Float[Array, " depth"]:
        """KL of the model's mean distribution from the lens's: what it says whatever the input."""
        return _kl(self.marginals[MODEL][0], self.marginals[lens])

    @property
    def unigram_floor_nats(self) -> float:
        """KL of the text's own token frequencies from the model's mean distribution.

        The model itself is as far as this from being unbiased on this much text, so that a lens's
        bias below it is none.
        """
        return float(_kl(self.unigram, self.marginals[MODEL])[0])

    @property
    def halves_floor_nats(self) -> float:
        """The same between the model on one half of the documents and on the other: noise alone."""
        return float(_kl(self.model_halves[0], self.model_halves[1]))

    def to_frame(self) -> pd.DataFrame:
        """One row a lens and depth, and one for the model; nats also as bits per UTF-8 byte."""
        import pandas as pd

        rows = []
        for lens in (*self.lens_names, MODEL):
            found = {figure: self.estimate(lens, figure) for figure in FIGURES}
            biases = self.marginal_bias_nats(lens)
            for i, depth in enumerate(self.depths if lens != MODEL else [max(self.depths) + 1]):
                row: dict[str, object] = {"lens": lens, "depth": depth}
                for figure, estimate in found.items():
                    row |= _columns(figure, estimate, i)
                    if figure in _IN_NATS:
                        row |= _columns(
                            figure.replace("_nats", "_bits_per_byte"),
                            Estimate(*(v * self.nats_to_bits_per_byte for v in estimate)),
                            i,
                        )
                row["marginal_bias_nats"] = biases[i]
                row["marginal_bias_bits"] = biases[i] / np.log(2)
                rows.append(row)
        return pd.DataFrame(rows)

    def _interval(self, sums: Float[Array, "row depth"], figure: str) -> Estimate:
        _, group = np.unique(self.documents, return_inverse=True)
        n = int(group.max()) + 1
        both = np.column_stack([sums, self.row_counts[figure]])
        totals = np.zeros((n, both.shape[1]))
        np.add.at(totals, group, both)
        rng = np.random.default_rng(self.seed)
        draws = []
        for start in range(0, self.n_bootstrap, _DRAWS_AT_ONCE):
            size = min(_DRAWS_AT_ONCE, self.n_bootstrap - start)
            drawn = rng.multinomial(n, np.full(n, 1 / n), size=size) @ totals
            draws.append(drawn[:, :-1] / np.maximum(drawn[:, -1:], 1))
        mean = totals[:, :-1].sum(0) / max(totals[:, -1].sum(), 1)
        if n < 2 or not draws:
            unknown = np.full_like(mean, np.nan)
            return Estimate(mean, unknown, unknown)
        low, high = np.quantile(np.concatenate(draws), [0.025, 0.975], axis=0)
        return Estimate(mean, low, high)


def _columns(name: str, estimate: Estimate, i: int) -> dict[str, float]:
    ends = {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {column: float(values[i]) for column, values in ends.items()}


def _kl(p: Float[Array, " d_vocab"], q: Float[Array, "*n d_vocab"]) -> Float[Array, "*n"]:
    """KL(p || q) in nats; what p never has does not count."""
    there = p > 0
    with np.errstate(divide="ignore"):
        return (p[there] * (np.log(p[there]) - np.log(q[..., there]))).sum(-1)


@dataclass(frozen=True, eq=False)
class LayerTransfer:
    """One depth's translator on another depth's states; rows translators, columns states.

    Attributes:
        ce_nats: cross-entropy to the token that follows.
        kl_nats: KL from what the states' own translator says to what the other one says.
    """

    lens_name: str
    ce_nats: Float[Array, "translator state"]
    kl_nats: Float[Array, "translator state"]
    nats_to_bits_per_byte: float

    @property
    def penalty_nats(self) -> Float[Array, "translator state"]:
        """How much worse the other translator is than the states' own."""
        return self.ce_nats - np.diag(self.ce_nats)[None]

    def to_frame(self) -> pd.DataFrame:
        """One row a pair of depths."""
        import pandas as pd

        translator, state = np.indices(self.ce_nats.shape)
        return pd.DataFrame(
            {
                "translator": translator.ravel(),
                "state": state.ravel(),
                "ce_nats": self.ce_nats.ravel(),
                "kl_nats": self.kl_nats.ravel(),
                "penalty_nats": self.penalty_nats.ravel(),
            }
        )
