"""Repeated random tokens: text in which only attention to the context can predict anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.model.errors import PromptTooLongError, TokenError

if TYPE_CHECKING:
    from lens_core import HookedModel


def repeated_random_tokens(
    model: HookedModel, *, n_sequences: int = 32, half: int = 25, copies: int = 2, seed: int = 0
) -> Int[Tensor, "n_sequences pos"]:
    """BOS (if the model's prompts begin with it), ``half`` different random tokens, and copies.

    Special tokens, and rows of the embedding that are no token, are never drawn.

    Returns:
        pos = (1 with BOS) + copies * half.

    Raises:
        PromptTooLongError: that does not fit into the context.
        TokenError: the vocabulary has fewer than ``half`` tokens to draw from.

    Example:
        >>> repeated_random_tokens(model, n_sequences=4, half=10).shape  # doctest: +SKIP
        torch.Size([4, 21])
    """
    words, start = _words(model), _start(model)
    if half > len(words):
        raise TokenError(
            f"{half} different tokens were asked for, and {model.cfg.name} has {len(words)}; "
            f"use a half of at most {len(words)}."
        )
    length, n_ctx = len(start) + copies * half, model.cfg.n_ctx
    if n_ctx is not None and length > n_ctx:
        raise PromptTooLongError(
            f"{copies} copies of {half} tokens are {length} tokens, and {model.cfg.name} reads at "
            f"most {n_ctx}; use a half of at most {largest_half(model, copies)}."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack(
        [words[torch.randperm(len(words), generator=generator)[:half]] for _ in range(n_sequences)]
    )
    first = torch.tensor(start, dtype=torch.long).expand(n_sequences, -1)
    return torch.cat([first, *[drawn] * copies], dim=1).to(model.cfg.device)


def largest_half(model: HookedModel, copies: int = 2) -> int:
    """The longest ``half`` that vocabulary and context of a model allow; 0 if there is none."""
    n_words, n_ctx = len(_words(model)), model.cfg.n_ctx
    return (
        n_words if n_ctx is None else max(0, min(n_words, (n_ctx - len(_start(model))) // copies))
    )


def _start(model: HookedModel) -> list[int]:
    bos = model.bos_id if model.default_prepend_bos else None
    return [] if bos is None else [bos]


def _words(model: HookedModel) -> Int[Tensor, " n"]:
    """The ids that may be drawn: tokens of the tokenizer, the special ones and padding left out."""
    allowed = torch.ones(model.cfg.d_vocab, dtype=torch.bool)
    if model.tokenizer is not None:
        allowed[len(model.tokenizer) :] = False
        special = [i for i in model.tokenizer.all_special_ids if i < model.cfg.d_vocab]
        allowed[special] = False
        if 0 <= model.pad_id < model.cfg.d_vocab:
            allowed[model.pad_id] = False
    return allowed.nonzero()[:, 0]
