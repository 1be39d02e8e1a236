"""Repeated random tokens: text in which only attention to the context can predict anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

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
    raise NotImplementedError


def largest_half(model: HookedModel, copies: int = 2) -> int:
    """The longest ``half`` that vocabulary and context of a model allow."""
    raise NotImplementedError
