"""One prompt's tokens, whatever it was given as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.model.errors import TokenError, UnknownSiteError

if TYPE_CHECKING:
    from lens_core import HookedModel


def one_prompt(
    model: HookedModel, prompt_or_tokens: str | Int[Tensor, "1 pos"]
) -> Int[Tensor, "1 pos"]:
    """The prompt's tokens, without padding on its left. Raises TokenError for several prompts."""
    tokens = (
        model.to_tokens(prompt_or_tokens)
        if isinstance(prompt_or_tokens, str)
        else torch.atleast_2d(prompt_or_tokens)
    )
    if tokens.shape[0] != 1:
        raise TokenError(f"This reads one prompt at a time; these tokens hold {tokens.shape[0]}.")
    mask = model.attention_mask(tokens) if tokens.numel() else None
    return tokens if mask is None else tokens[:, mask[0].bool()]


def one_token(model: HookedModel, token: int | str) -> int:
    """A token's id, given as such or as its text. Raises TokenError if it is not one token."""
    if isinstance(token, str):
        return model.to_single_token(token)
    if not 0 <= token < model.cfg.d_vocab:
        raise TokenError(
            f"Token {token} is not in the vocabulary; ids go from 0 to {model.cfg.d_vocab - 1}."
        )
    return token


def check_head(model: HookedModel, head: int) -> int:
    """The head's number, if the model has it. Raises UnknownSiteError."""
    if not 0 <= head < model.cfg.n_heads:
        raise UnknownSiteError(
            f"{model.cfg.name} has the heads 0 to {model.cfg.n_heads - 1} in every layer; "
            f"there is no head {head}."
        )
    return head
