"""What a head would do, read from its weights: the OV and QK circuits, never multiplied out.

    ov_promoted(model, layer=5, head=2, token=" Paris")   # what attending to " Paris" writes
    qk_attended(model, layer=5, head=2, token=" Paris")   # what " Paris" would look for
    copying_eigenvalues(model).score                      # [L, H], from -1 to 1

Both circuits are read on the direct path: from a token's embedding through this head alone to the
logits. A head in the middle of a model reads what earlier layers wrote, so this is what it could
do with the bare token. ``embedding="effective"`` takes the token as the first MLP leaves it, which
is nearer to what later heads read (Wang et al. 2022, arXiv 2211.00593). Results say which it was.

After Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

Array = np.ndarray[Any, Any]
Embedding = Literal["W_E", "effective"]


@dataclass(frozen=True, eq=False)
class OVPromoted:
    """The logits that one head adds when it looks at one token, as far as they depend on the token.

    In logits at a final-norm scale of 1, with the mean over the vocabulary taken away; constant
    parts (biases) are left out. Only order and ratios mean something.
    """

    model_name: str
    layer: int
    head: int
    token_id: int
    token: str
    embedding: Embedding
    promoted_ids: Array  # [k], most raised first
    promoted: tuple[str, ...]
    promoted_logits: Array  # float32 [k]
    suppressed_ids: Array  # [k], most lowered first
    suppressed: tuple[str, ...]
    suppressed_logits: Array  # float32 [k]
    own_logit: float  # of the token itself
    own_rank: int  # 1 is the most raised of all

    def to_frame(self) -> pd.DataFrame:
        """One line a token: promoted ones, then suppressed ones."""
        import pandas as pd

        return pd.DataFrame(
            {
                "effect": ["promoted"] * len(self.promoted) + ["suppressed"] * len(self.suppressed),
                "token_id": [*self.promoted_ids, *self.suppressed_ids],
                "token": [*self.promoted, *self.suppressed],
                "logit": [*self.promoted_logits, *self.suppressed_logits],
            }
        )


@dataclass(frozen=True, eq=False)
class QKAttended:
    """The tokens that a query token would look at most and least, by content alone.

    Scores are those of the model before softmax, biases included, as if both tokens stood in the
    same place: without position embeddings, and with rotary embedding at distance 0.
    """

    model_name: str
    layer: int
    head: int
    token_id: int
    token: str
    embedding: Embedding
    attended_ids: Array  # [k], highest score first
    attended: tuple[str, ...]
    attended_scores: Array  # float32 [k]
    avoided_ids: Array  # [k], lowest score first
    avoided: tuple[str, ...]
    avoided_scores: Array  # float32 [k]
    own_score: float  # of the token itself as key
    own_rank: int  # 1 is the highest of all
    mean_score: float  # over the vocabulary
    std_score: float

    def to_frame(self) -> pd.DataFrame:
        """One line a token: attended ones, then avoided ones."""
        import pandas as pd

        return pd.DataFrame(
            {
                "effect": ["attended"] * len(self.attended) + ["avoided"] * len(self.avoided),
                "token_id": [*self.attended_ids, *self.avoided_ids],
                "token": [*self.attended, *self.avoided],
                "score": [*self.attended_scores, *self.avoided_scores],
            }
        )


@dataclass(frozen=True, eq=False)
class CopyingEigenvalues:
    """How far each head's full OV circuit maps tokens onto themselves.

    ``score`` = sum of the eigenvalues / sum of their sizes: 1 if all are positive (whatever the
    head reads, it makes likelier), -1 if all are negative, about 0 for random weights.
    """

    model_name: str
    embedding: Embedding
    score: Array  # float64 [L, H]
    eigenvalues: Array  # complex128 [L, H, d_head], those that can be other than 0

    def to_frame(self) -> pd.DataFrame:
        """One line a head."""
        import pandas as pd

        layer, head = (i.ravel() for i in np.indices(self.score.shape))
        return pd.DataFrame({"layer": layer, "head": head, "score": self.score.ravel()})


@dataclass(frozen=True, eq=False)
class CopyingDirect:
    """Of some tokens the share whose own logit a head's OV circuit raises most of the vocabulary.

    ``top1``, ``top5``: [L, H]; NaN for heads that were not asked for. Chance is 1 and 5 over the
    size of the vocabulary.
    """

    model_name: str
    embedding: Embedding
    token_ids: Array  # [n], the tokens that were tried
    top1: Array  # float64 [L, H]
    top5: Array  # float64 [L, H]
    d_vocab: int

    def to_frame(self) -> pd.DataFrame:
        """One line a head."""
        import pandas as pd

        layer, head = (i.ravel() for i in np.indices(self.top1.shape))
        return pd.DataFrame(
            {"layer": layer, "head": head, "top1": self.top1.ravel(), "top5": self.top5.ravel()}
        )


def ov_promoted(
    model: HookedModel,
    layer: int,
    head: int,
    token: int | str,
    k: int = 10,
    *,
    embedding: Embedding = "W_E",
) -> OVPromoted:
    """The k tokens that a head makes likeliest, and unlikeliest, by looking at ``token``.

    Raises:
        UnknownSiteError: no such layer or head.
        TokenError: not one token.
        UnsupportedModelError: the weights between embedding and logits cannot be read.
    """
    raise NotImplementedError


def qk_attended(
    model: HookedModel,
    layer: int,
    head: int,
    token: int | str,
    k: int = 10,
    *,
    embedding: Embedding = "W_E",
) -> QKAttended:
    """The k tokens of the vocabulary that ``token`` as the query would look at most, and least.

    Raises:
        UnknownSiteError, TokenError, UnsupportedModelError: as `ov_promoted`.
    """
    raise NotImplementedError


def copying_eigenvalues(model: HookedModel, *, embedding: Embedding = "W_E") -> CopyingEigenvalues:
    """The eigenvalues of W_E W_V W_O W_U of every head, from products of d_head x d_head.

    Norm gains are folded in, W_U is centred over the vocabulary, norm scales are left out.

    Raises:
        UnsupportedModelError: the weights between embedding and logits cannot be read.
    """
    raise NotImplementedError


def copying_direct(
    model: HookedModel,
    token_ids: Iterable[int] | None = None,
    *,
    heads: Iterable[tuple[int, int]] | None = None,
    n_tokens: int = 256,
    seed: int = 0,
    embedding: Embedding = "W_E",
) -> CopyingDirect:
    """The share of tokens that a head, looking at them, raises above all others (top 1, top 5).

    Args:
        token_ids: the tokens to try; None: ``n_tokens`` drawn from the vocabulary.
        heads: (layer, head); None: all of them, which takes seconds in models of GPT-2's size.

    Raises:
        UnknownSiteError, TokenError, UnsupportedModelError: as `ov_promoted`.
    """
    raise NotImplementedError
