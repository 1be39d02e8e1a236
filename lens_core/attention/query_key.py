"""How one attention score comes about: the products of a query and a key, entry by entry.

    found = query_key(model, "The Eiffel Tower is in", layer=3, head=1, dest=5, src=2)
    found.products.sum() * found.scale + found.remainder     # the score, as the model has it

Query and key are those that the model multiplies: after biases, norms and rotary embedding, and in
grouped-query attention the key that the head shares. BertViz's neuron view (Vig 2019, arXiv
1906.05714) shows the same for models without rotary embedding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class QueryKey:
    """One cell of a head's attention, taken apart.

    ``products.sum() * scale + remainder == score``. The remainder is what the model adds to the
    scaled product: 0 in most models; ALiBi's bias; the effect of a soft-cap.
    """

    model_name: str
    layer: int
    head: int
    kv_head: int  # the key-value head that the head reads
    dest: int
    src: int
    tokens: tuple[str, ...]  # [T], texts of the prompt's tokens
    q: Array  # float32 [d_head], of the destination
    k: Array  # float32 [d_head], of the source
    products: Array  # float32 [d_head], q * k
    scale: float  # what the model multiplies their sum by, mostly 1/sqrt(d_head)
    remainder: float  # score - products.sum() * scale; -inf if masked
    score: float  # before softmax; -inf if masked
    weight: float  # the pattern at (dest, src)
    row_scores: Array  # float32 [T], scores of the destination's whole row; NaN where masked
    row: Array  # float32 [T], the row after softmax
    sink: float  # attention that goes to no position, in models with attention sinks

    @property
    def masked(self) -> bool:
        """The destination may not look there: the source is after it, or outside its window."""
        return bool(np.isneginf(self.score))

    @property
    def contributions(self) -> Array:
        """What each dimension adds to the score, float32 [d_head]: products * scale."""
        return np.asarray(self.products * self.scale, np.float32)

    def to_frame(self) -> pd.DataFrame:
        """One line a dimension: q, k, their product, and what it adds to the score."""
        import pandas as pd

        return pd.DataFrame(
            {
                "dimension": np.arange(len(self.q)),
                "q": self.q,
                "k": self.k,
                "product": self.products,
                "contribution": self.contributions,
            }
        )


def query_key(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    layer: int,
    head: int,
    dest: int,
    src: int,
    *,
    interventions: Iterable[Intervention] = (),
) -> QueryKey:
    """Take one attention score apart.

    Args:
        layer, dest, src: negative ones count from the end.

    Raises:
        UnknownSiteError: no such layer or head, or its q and k cannot be tapped.
        TokenError: no such position; and as `read_attention`.

    Example:
        >>> found = query_key(model, "a b a", 1, 0, dest=-1, src=1)  # doctest: +SKIP
        >>> abs(found.contributions.sum() + found.remainder - found.score) < 1e-4  # doctest: +SKIP
        True
    """
    raise NotImplementedError
