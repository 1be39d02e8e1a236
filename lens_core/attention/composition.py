"""How much one head's output could feed another head's queries, keys or values, from weights alone.

    found = composition_scores(model)
    found.scores["k"][0, 3, 1, 5]       # head 3 of layer 0 into the keys of head 5 of layer 1
    found.strongest("k")[0]             # the strongest pair

A score is the share of what the first head can write that the second can read. Random matrices of
this rank overlap as well, at about 1/sqrt(d_model): only what is above the measured random baseline
is news, and even that says what could happen, not what does on any text.

After Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

Array = np.ndarray[Any, Any]
Kind = Literal["q", "k", "v"]
KINDS: tuple[Kind, ...] = ("q", "k", "v")


@dataclass(frozen=True, eq=False)
class CompositionScores:
    """Composition of all pairs of heads, by kind.

    Attributes:
        scores: by kind float32 [L, H, L, H] (earlier head, later head); 0 unless the first one's
            layer is lower.
        theory: 1/sqrt(d_model), what random heads of any rank have.
        baseline_mean, baseline_std: of random heads of this model's shape, drawn and measured.
        n_draws, seed: how many, and from where.
        aligned: 1/sqrt(d_head), what two heads have that share one subspace evenly.
    """

    model_name: str
    scores: Mapping[Kind, Array]
    theory: float
    baseline_mean: float
    baseline_std: float
    n_draws: int
    seed: int
    aligned: float

    def above_baseline(self, kind: Kind) -> Array:
        """The scores less the random baseline's mean, NaN for pairs that cannot compose."""
        scores = self.scores[kind]
        return np.where(_ordered(scores.shape), scores - self.baseline_mean, np.nan)

    def strongest(self, kind: Kind, k: int = 10) -> list[tuple[int, int, int, int]]:
        """(layer, head, later layer, later head) of the k highest scores."""
        scores = self.scores[kind]
        order = np.argsort(-scores, axis=None, kind="stable")[:k]
        pairs = [tuple(int(n) for n in np.unravel_index(i, scores.shape)) for i in order]
        return [(a, b, c, d) for a, b, c, d in pairs if a < c]

    def to_frame(self) -> pd.DataFrame:
        """One line a pair of heads, with a column a kind."""
        import pandas as pd

        shape = next(iter(self.scores.values())).shape
        layer, head, later_layer, later_head = np.nonzero(_ordered(shape))
        columns: dict[str, Any] = {
            "layer": layer,
            "head": head,
            "later_layer": later_layer,
            "later_head": later_head,
        }
        for kind, scores in self.scores.items():
            columns[kind] = scores[layer, head, later_layer, later_head]
        return pd.DataFrame(columns)


def composition_scores(
    model: HookedModel, kinds: Iterable[Kind] = KINDS, *, n_draws: int = 200, seed: int = 0
) -> CompositionScores:
    """Q-, K- and V-composition of all pairs of heads.

    ||W_OV W_QK|| / (||W_OV|| ||W_QK||), with W_QK transposed for keys and W_OV of the later head
    for values; Frobenius norms. Norm gains are folded in and what LayerNorm takes away is taken
    away; rotary embedding, biases and q- and k-norms are left out.

    Args:
        n_draws: random pairs that the baseline is measured on.

    Raises:
        ValueError: a kind that is not q, k or v.
        UnknownSiteError, UnsupportedModelError: the weights cannot be read.

    Example:
        >>> composition_scores(model).scores["k"].shape  # doctest: +SKIP
        (8, 8, 8, 8)
    """
    raise NotImplementedError


def _ordered(shape: tuple[int, ...]) -> Array:
    """Where the first head's layer is below the second's."""
    layers = np.arange(shape[0])
    return np.broadcast_to((layers[:, None] < layers)[:, None, :, None], shape)
