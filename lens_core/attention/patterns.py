"""What every head looks at: the attention patterns of a prompt, of several, and their main edges.

    from lens_core import HookedModel
    from lens_core.attention import read_attention

    model = HookedModel.from_pretrained("tiny-world")
    attention = read_attention(model, "The Eiffel Tower is in", value_weighted=True)
    print(attention.pattern[3, 1])          # layer 3, head 1: rows are destinations

What a pattern answers: from where a head moves something. What it does not answer: what it moves,
how much of it, and whether any later part uses it. The value-weighted pattern answers the second
(Kobayashi et al. 2020, arXiv 2004.10102); the third takes an intervention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attention.prompt import one_prompt
from lens_core.lens.token_text import token_text
from lens_core.model.errors import TokenError
from lens_core.model.weights import expand_kv

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Array = np.ndarray[Any, Any]
# Patterns of this many numbers are held at a time when prompts are averaged.
_HELD_NUMBERS = 2**25


@dataclass(frozen=True, eq=False)
class AttentionResult:
    """The attention of one prompt. L layers, H heads, T positions, k guesses.

    Axes of [L, H, T, T]: layer, head, destination (the position that reads), source (that is read).
    The rows of ``pattern`` sum to 1, less what goes to an attention sink if the model has one.
    """

    model_name: str
    token_ids: Array  # [T]
    tokens: tuple[str, ...]  # their texts
    pattern: Array  # float32 [L, H, T, T]
    scores: Array | None  # float32 [L, H, T, T], before softmax; NaN where masked
    v_norms: Array | None  # float32 [L, H, T], length of each source's value, ||v||
    ov_norms: Array | None  # float32 [L, H, T], length of what it would write, ||v W_O||
    top_ids: Array  # [T, k], the model's best guesses of the next token
    top_probs: Array  # float32 [T, k]
    top_tokens: tuple[tuple[str, ...], ...]  # [T][k], their texts

    @property
    def value_weighted(self) -> Array | None:
        """pattern x ||v W_O||, [L, H, T, T]: the length of what each edge writes; None if not read.

        In units of the residual stream; a row no longer sums to 1.
        """
        return None if self.ov_norms is None else self.pattern * self.ov_norms[:, :, None, :]

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return int(self.pattern.shape[0])

    @property
    def n_heads(self) -> int:
        """Heads a layer."""
        return int(self.pattern.shape[1])

    def to_frame(self) -> pd.DataFrame:
        """One line an edge: layer, head, destination, source (never after it), its figures."""
        import pandas as pd

        edge = np.tril(np.ones(self.pattern.shape[-2:], bool))
        layer, head, dest, src = np.nonzero(np.broadcast_to(edge, self.pattern.shape))
        columns: dict[str, Any] = {
            "layer": layer,
            "head": head,
            "dest": dest,
            "src": src,
            "dest_token": np.array(self.tokens, object)[dest],
            "src_token": np.array(self.tokens, object)[src],
            "pattern": self.pattern[layer, head, dest, src],
        }
        if self.scores is not None:
            columns["score"] = self.scores[layer, head, dest, src]
        if self.v_norms is not None and self.value_weighted is not None:
            columns["v_norm"] = self.v_norms[layer, head, src]
            columns["value_weighted"] = self.value_weighted[layer, head, dest, src]
        return pd.DataFrame(columns)


@dataclass(frozen=True, eq=False)
class MeanAttention:
    """Attention averaged over N prompts of the same number of tokens."""

    model_name: str
    token_ids: Array  # [N, T]
    tokens: tuple[tuple[str, ...], ...]  # [N][T], their texts
    pattern: Array  # float32 [L, H, T, T], the mean over prompts
    std: Array  # float32 [L, H, T, T], their standard deviation (0 for one prompt)

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each position: the token that all prompts have there, or else "first ...|n".

        "Paris ...|4" is a position that holds four different tokens, Paris in the first prompt.
        """
        return tuple(
            here[0] if len(set(here)) == 1 else f"{here[0]} ...|{len(set(here))}"
            for here in zip(*self.tokens, strict=True)
        )

    def to_frame(self) -> pd.DataFrame:
        """One line an edge: layer, head, destination, source (never after it), its figures."""
        import pandas as pd

        edge = np.tril(np.ones(self.pattern.shape[-2:], bool))
        layer, head, dest, src = np.nonzero(np.broadcast_to(edge, self.pattern.shape))
        labels = np.array(self.labels, object)
        return pd.DataFrame(
            {
                "layer": layer,
                "head": head,
                "dest": dest,
                "src": src,
                "dest_token": labels[dest],
                "src_token": labels[src],
                "pattern": self.pattern[layer, head, dest, src],
                "std": self.std[layer, head, dest, src],
            }
        )


def read_attention(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    *,
    interventions: Iterable[Intervention] = (),
    scores: bool = False,
    value_weighted: bool = False,
    top_k: int = 5,
) -> AttentionResult:
    """The attention of every head on one prompt, in one pass.

    Args:
        interventions: what to change while the model runs; the patterns are the changed model's.
        scores: read the scores before the softmax as well.
        value_weighted: read how long each source's value is, before and after W_O.
        top_k: next-token guesses kept for each position.

    Raises:
        EmptyPromptError, PromptTooLongError, TokenError: from the prompt.
        UnknownSiteError: the model's attention cannot be tapped.

    Example:
        >>> found = read_attention(model, "The Eiffel Tower is in")  # doctest: +SKIP
        >>> found.pattern.shape  # doctest: +SKIP
        (8, 8, 7, 7)
    """
    tokens = one_prompt(model, prompt_or_tokens)
    layers = range(model.cfg.n_layers)
    names = ["pattern", *(["scores"] if scores else []), *(["v"] if value_weighted else [])]
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names=names, interventions=interventions)
        top = logits[0].float().softmax(dim=-1).topk(min(top_k, logits.shape[-1]), dim=-1)
        norms = [_norms(model, cache["v", n][0], n) for n in layers] if value_weighted else None
    return AttentionResult(
        model_name=model.cfg.name,
        token_ids=tokens[0].cpu().numpy(),
        tokens=_texts(model, tokens[0]),
        pattern=_stacked(cache["pattern", n][0] for n in layers),
        scores=_stacked(_shown(cache["scores", n][0]) for n in layers) if scores else None,
        v_norms=None if norms is None else _stacked(plain for plain, _ in norms),
        ov_norms=None if norms is None else _stacked(written for _, written in norms),
        top_ids=top.indices.cpu().numpy(),
        top_probs=top.values.cpu().numpy(),
        top_tokens=tuple(_texts(model, row) for row in top.indices),
    )


def mean_attention(
    model: HookedModel,
    prompts: Sequence[str] | Int[Tensor, "n pos"],
    *,
    interventions: Iterable[Intervention] = (),
) -> MeanAttention:
    """Attention averaged over prompts position by position: what a head does, whatever the words.

    Prompts of one length only: in others the same column is not the same place.

    Raises:
        TokenError: no prompts, or prompts of different lengths; the sentence lists them.
        EmptyPromptError, PromptTooLongError, UnknownSiteError: as `read_attention`.

    Example:
        >>> mean_attention(model, ["Ann likes tea", "Bob likes jam"]).labels  # doctest: +SKIP
    """
    rows = [one_prompt(model, prompt) for prompt in prompts]
    lengths = [row.shape[1] for row in rows]
    if len(set(lengths)) != 1:
        raise TokenError(
            "Attention is averaged over prompts of the same number of tokens; these have "
            f"{', '.join(map(str, lengths)) or 'none'}."
        )
    tokens, edits = torch.cat(rows), tuple(interventions)
    cfg, length = model.cfg, lengths[0]
    size = max(1, _HELD_NUMBERS // (cfg.n_layers * cfg.n_heads * length**2))
    total = torch.zeros(cfg.n_layers, cfg.n_heads, length, length, dtype=torch.float64)
    squares = torch.zeros_like(total)
    with torch.no_grad():
        for chunk in tokens.split(size):
            _, cache = model.run_with_cache(
                chunk, names="pattern", interventions=edits, last_logits_only=True
            )
            for layer in range(cfg.n_layers):
                pattern = cache["pattern", layer].double().cpu()
                total[layer] += pattern.sum(0)
                squares[layer] += pattern.square().sum(0)
    mean = total / len(tokens)
    std = (squares / len(tokens) - mean.square()).clamp(min=0).sqrt()
    return MeanAttention(
        model_name=cfg.name,
        token_ids=tokens.cpu().numpy(),
        tokens=tuple(_texts(model, row) for row in tokens),
        pattern=mean.float().numpy(),
        std=std.float().numpy(),
    )


def strongest_edges(pattern: Array, mass: float) -> Array:
    """Of each destination's attention the fewest edges that together hold ``mass`` of it.

    As exBERT draws it (Hoover et al. 2020, arXiv 1910.05276): the strongest edges of a row until
    their sum reaches the share. 0 keeps none, 1 all that are not zero; of equals, earlier sources
    come first.

    Args:
        pattern: [..., T, T], any non-negative weights; rows are destinations. NaN counts as 0.
        mass: share of each row's sum, 0 to 1.

    Returns:
        bool [..., T, T].

    Raises:
        ValueError: ``mass`` is outside 0 to 1.

    Example:
        >>> strongest_edges(np.array([[0.6, 0.3, 0.1]]), 0.8)
        array([[ True,  True, False]])
    """
    if not 0.0 <= mass <= 1.0:
        raise ValueError(f"The share of attention to show goes from 0 to 1, not {mass}.")
    weights = np.nan_to_num(np.asarray(pattern, np.float64))
    if mass == 1.0:
        return np.asarray(weights > 0)
    order = np.argsort(-weights, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, order, axis=-1)
    before = np.cumsum(ordered, axis=-1) - ordered
    # A sum of float32 weights reaches a share only up to their rounding.
    wanted = mass * weights.sum(axis=-1, keepdims=True) - 1e-6
    kept = np.zeros(weights.shape, bool)
    np.put_along_axis(kept, order, (before < wanted) & (ordered > 0), axis=-1)
    return kept


def _norms(
    model: HookedModel, v: Float[Tensor, "pos kv_head d_head"], layer: int
) -> tuple[Float[Tensor, "head pos"], Float[Tensor, "head pos"]]:
    """The length of each value, and of what its head would write of it."""
    per_head = expand_kv(v, model.cfg.n_heads // model.cfg.n_kv_heads)
    written = model.head_out(per_head[None], layer)[0]
    return per_head.float().norm(dim=-1).T, written.float().norm(dim=-1).T


def _shown(scores: Float[Tensor, "head pos key"]) -> Tensor:
    return scores.float().masked_fill(torch.isneginf(scores), torch.nan)


def _stacked(layers: Iterable[Tensor]) -> Array:
    return torch.stack([layer.float().cpu() for layer in layers]).numpy()


def _texts(model: HookedModel, ids: Int[Tensor, " pos"]) -> tuple[str, ...]:
    return tuple(token_text(model, i) for i in ids.tolist())
