"""How one attention score comes about: the products of a query and a key, entry by entry.

    found = query_key(model, "The Eiffel Tower is in", layer=3, head=1, dest=5, src=2)
    found.products.sum() * found.scale + found.remainder     # the score, as the model has it

Query and key are those that the model multiplies: after biases, norms and rotary embedding, and in
grouped-query attention the key that the head shares. BertViz's neuron view (Vig 2019, arXiv
1906.05714) shows the same for models without rotary embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attention.paths import undisturbed
from lens_core.attention.prompt import check_head, one_prompt
from lens_core.interventions import set_to
from lens_core.lens.token_text import token_text
from lens_core.model.errors import TokenError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Array = np.ndarray[Any, Any]
# A measured factor this near to 1/sqrt(d_head), in relation, is that: the rest is rounding and, in
# models that soft-cap their scores, the cap.
_ROUNDING = 1e-3


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
    tokens = one_prompt(model, prompt_or_tokens)
    layer, length = model.resolve_layer(layer), tokens.shape[1]
    kv_head = model.kv_head(check_head(model, head))
    dest, src = _position(dest, length), _position(src, length)
    names = [(site, layer) for site in ("resid_pre", "q", "k", "scores", "pattern")]
    with torch.no_grad():
        _, cache = model.run_with_cache(
            tokens, names=names, interventions=interventions, last_logits_only=True
        )
        q = cache["q", layer][0, dest, head].float()
        k = cache["k", layer][0, src, kv_head].float()
        keys = cache["k", layer][0, :, kv_head]
        scale = _scale(model, cache["resid_pre", layer], keys, layer, head, dest)
    row_scores = cache["scores", layer][0, head, dest].float()
    row = cache["pattern", layer][0, head, dest].float()
    score = float(row_scores[src])
    return QueryKey(
        model_name=model.cfg.name,
        layer=layer,
        head=head,
        kv_head=kv_head,
        dest=dest,
        src=src,
        tokens=tuple(token_text(model, i) for i in tokens[0].tolist()),
        q=q.cpu().numpy(),
        k=k.cpu().numpy(),
        products=(q * k).cpu().numpy(),
        scale=scale,
        remainder=score - scale * float((q * k).double().sum()),
        score=score,
        weight=float(row[src]),
        row_scores=row_scores.masked_fill(torch.isneginf(row_scores), torch.nan).cpu().numpy(),
        row=row.cpu().numpy(),
        sink=float(cache["sink", layer][0, head, dest]),
    )


def score_scale(model: HookedModel, layer: int, head: int) -> float:
    """What the model multiplies a head's q k by, found by asking the model; see `query_key`."""
    tokens = torch.tensor([[0, 1]], device=model.cfg.device)
    with torch.no_grad():
        _, cache = undisturbed(
            model.run_with_cache,
            tokens,
            names=[("resid_pre", layer), ("k", layer)],
            stop_at_layer=layer + 1,
            attention_mask=torch.ones_like(tokens),
        )
        keys = cache["k", layer][0, :, model.kv_head(head)]
        return _scale(model, cache["resid_pre", layer], keys, layer, head, len(keys) - 1)


def _scale(
    model: HookedModel,
    resid: Float[Tensor, "1 pos d_model"],
    keys: Float[Tensor, "pos d_head"],
    layer: int,
    head: int,
    dest: int,
) -> float:
    """The factor between products and score, as the model itself applies it.

    Families keep it in different places, some change it from layer to layer. So the destination's
    query is set to two vectors whose products with known keys are known, and the scores compared.
    What is added drops out, and at this size a soft-cap changes next to nothing. Families with an
    attention sink shift whole rows, so two keys of the row are compared where they differ.
    """
    product = model.cfg.d_head**0.5  # so that the score is about 1
    own, other = keys[dest].float(), max(dest - 1, 0)
    apart = own - keys[other].float()
    if apart.square().sum() <= _ROUNDING * own.square().sum():
        apart, other = own, -1
    along = apart * (product / apart.square().sum())
    both = torch.stack([along, -along]).to(resid.dtype)[:, None, None]
    edit = set_to("q", layer, both, positions=[dest], heads=[head])
    # Edits around us have had their effect on ``resid`` already.
    _, cache = undisturbed(
        model.run_with_cache,
        torch.zeros(2, resid.shape[1], dtype=torch.long, device=resid.device),
        names=[("scores", layer)],
        interventions=[edit],
        start_at_layer=layer,
        resid=resid.expand(2, -1, -1),
        stop_at_layer=layer + 1,
        attention_mask=torch.ones(2, resid.shape[1], dtype=torch.long, device=resid.device),
    )
    rows = cache["scores", layer][:, head, dest].double()
    reached = rows[:, dest] - rows[:, other] if other >= 0 else rows[:, dest]
    measured = float(reached[0] - reached[1]) / (2 * product)
    usual = model.cfg.d_head**-0.5
    rounding = max(_ROUNDING, torch.finfo(model.cfg.dtype).eps)
    return usual if math.isclose(measured, usual, rel_tol=rounding) else measured


def _position(position: int, length: int) -> int:
    if not -length <= position < length:
        raise TokenError(
            f"The prompt has the positions 0 to {length - 1}; there is no position {position}."
        )
    return position % length
