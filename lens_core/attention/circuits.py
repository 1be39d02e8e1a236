"""What a head would do, read from its weights: the OV and QK circuits, never multiplied out.

    ov_promoted(model, layer=5, head=2, token=" Paris")   # what attending to " Paris" writes
    qk_attended(model, layer=5, head=2, token=" Paris")   # what " Paris" would look for

Both circuits are read on the direct path: from a token's embedding through this head alone to the
logits. A head in the middle of a model reads what earlier layers wrote, so this is what it could
do with the token alone: as the first MLP leaves it (``embedding="effective"``; Wang et al. 2022,
arXiv 2211.00593), or as it is embedded (``"W_E"``). The two can disagree altogether where the first
MLP does much to the embedding, so results say which it was.

After Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attention.paths import (
    Embedding,
    embedded,
    embedded_chunks,
    logits_of,
    undisturbed,
    values_and_outputs,
)
from lens_core.attention.prompt import check_head, one_token
from lens_core.attention.query_key import score_scale
from lens_core.lens.token_text import token_text
from lens_core.model.spec import module_at

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

Array = np.ndarray[Any, Any]


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


def ov_promoted(
    model: HookedModel,
    layer: int,
    head: int,
    token: int | str,
    k: int = 10,
    *,
    embedding: Embedding = "effective",
) -> OVPromoted:
    """The k tokens that a head makes likeliest, and unlikeliest, by looking at ``token``.

    Raises:
        UnknownSiteError: no such layer or head.
        TokenError: not one token.
        UnsupportedModelError: the weights between embedding and logits cannot be read.
    """
    layer, token_id = model.resolve_layer(layer), one_token(model, token)
    head = check_head(model, head)
    with torch.no_grad():
        ids = torch.tensor([token_id])
        normed = _unit(model, embedded(model, ids, embedding, layer), layer)
        values, outputs = values_and_outputs(model, layer)
        written = (normed @ values[head]) @ outputs[head]
        logits = logits_of(model, written)[0]
        logits = logits - logits.mean()
    best, worst = logits.topk(min(k, len(logits))), (-logits).topk(min(k, len(logits)))
    return OVPromoted(
        model_name=model.cfg.name,
        layer=layer,
        head=head,
        token_id=token_id,
        token=token_text(model, token_id),
        embedding=_used(embedding, layer),
        promoted_ids=best.indices.cpu().numpy(),
        promoted=_texts(model, best.indices),
        promoted_logits=best.values.cpu().numpy(),
        suppressed_ids=worst.indices.cpu().numpy(),
        suppressed=_texts(model, worst.indices),
        suppressed_logits=-worst.values.cpu().numpy(),
        own_logit=float(logits[token_id]),
        own_rank=1 + int((logits > logits[token_id]).sum()),
    )


def qk_attended(
    model: HookedModel,
    layer: int,
    head: int,
    token: int | str,
    k: int = 10,
    *,
    embedding: Embedding = "effective",
) -> QKAttended:
    """The k tokens of the vocabulary that ``token`` as the query would look at most, and least.

    Raises:
        UnknownSiteError, TokenError, UnsupportedModelError: as `ov_promoted`.
    """
    layer, token_id = model.resolve_layer(layer), one_token(model, token)
    head = check_head(model, head)
    with torch.no_grad():
        own = embedded(model, torch.tensor([token_id]), embedding, layer)
        query = _alone(model, own, "q", layer)[0, head]
        everything = torch.arange(model.cfg.d_vocab)
        scores = torch.cat(
            [
                _keys(model, some, layer, model.kv_head(head)) @ query
                for some in embedded_chunks(model, everything, embedding, layer)
            ]
        ) * score_scale(model, layer, head)
    best, worst = scores.topk(min(k, len(scores))), (-scores).topk(min(k, len(scores)))
    return QKAttended(
        model_name=model.cfg.name,
        layer=layer,
        head=head,
        token_id=token_id,
        token=token_text(model, token_id),
        embedding=_used(embedding, layer),
        attended_ids=best.indices.cpu().numpy(),
        attended=_texts(model, best.indices),
        attended_scores=best.values.cpu().numpy(),
        avoided_ids=worst.indices.cpu().numpy(),
        avoided=_texts(model, worst.indices),
        avoided_scores=-worst.values.cpu().numpy(),
        own_score=float(scores[token_id]),
        own_rank=1 + int((scores > scores[token_id]).sum()),
        mean_score=float(scores.mean()),
        std_score=float(scores.std(correction=0)),
    )


def _unit(
    model: HookedModel, states: Float[Tensor, "n d_model"], layer: int
) -> Float[Tensor, "n d_model"]:
    """States divided by the scale of the norm before attention, if there is one."""
    if model.spec.layers[layer].ln1 is None:
        return states
    return states / model.norm_scale("ln1", layer, states)


def _alone(
    model: HookedModel, states: Float[Tensor, "n d_model"], site: str, layer: int
) -> Float[Tensor, "n head d_head"]:
    """q or k of each state as the only position of a prompt, where rotary embedding is no turn."""
    ids = torch.zeros(len(states), 1, dtype=torch.long, device=states.device)
    _, cache = undisturbed(
        model.run_with_cache,
        ids,
        names=[(site, layer)],
        start_at_layer=layer,
        resid=states[:, None].to(model.cfg.dtype),
        stop_at_layer=layer + 1,
        attention_mask=torch.ones_like(ids),
    )
    return cache[site, layer][:, 0].float()


def _keys(
    model: HookedModel, states: Float[Tensor, "n d_model"], layer: int, kv_head: int
) -> Float[Tensor, "n d_head"]:
    """Keys of states, from the weights; from runs of the layer where more is done to them."""
    path = model.spec.layers[layer].ln1
    normed = states.to(model.cfg.dtype)
    if path is not None:
        normed = module_at(model.hf_model, f"{model.spec.blocks}.{layer}.{path}")(normed)
    keys = (normed @ model.W_K[layer, kv_head] + model.b_K[layer][kv_head]).float()
    seen = _alone(model, states[:4], "k", layer)[:, kv_head]
    if torch.allclose(keys[:4], seen, rtol=1e-3, atol=1e-4):
        return keys
    return _alone(model, states, "k", layer)[:, kv_head]


def _used(embedding: Embedding, layer: int) -> Embedding:
    return embedding if layer > 0 else "W_E"


def _texts(model: HookedModel, ids: Int[Tensor, " k"]) -> tuple[str, ...]:
    return tuple(token_text(model, i) for i in ids.tolist())
