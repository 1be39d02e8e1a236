"""Text to tokens and back, with one explicit rule for the beginning-of-sequence token.

`prepend_bos=None` follows the model: a BOS token comes first if the tokenizer itself puts one there
or the model was trained with one. `True` and `False` say so outright.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lens_core.model.errors import (
    EmptyPromptError,
    MissingTokenizerError,
    PromptTooLongError,
    TokenError,
)

if TYPE_CHECKING:
    from lens_core.model.config import ModelConfig

Text = str | Sequence[str]
Tokens = Tensor | Sequence[int] | Text


class Tokenization:
    """Mixin of HookedModel: tokenizer, BOS rule, padding."""

    tokenizer: Any
    cfg: ModelConfig
    default_prepend_bos: bool
    pad_id: int

    def to_tokens(self, text: Text, prepend_bos: bool | None = None) -> Tensor:
        """Tokenize one text or several.

        Args:
            text: a string, or a list of strings, which are padded on the left to one length.
            prepend_bos: None follows the model's own custom (`default_prepend_bos`).

        Returns:
            LongTensor [batch, pos] on the model's device.

        Raises:
            EmptyPromptError, PromptTooLongError, MissingTokenizerError; TokenError if a BOS token
            is asked for and there is none.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise EmptyPromptError("There is no prompt; type at least one word.")
        rows = [self._encode(t, prepend_bos) for t in texts]
        width = max(len(row) for row in rows)
        padded = [[self.pad_id] * (width - len(row)) + row for row in rows]
        return self._checked(torch.tensor(padded, dtype=torch.long))

    def attention_mask(self, tokens: Tensor) -> Tensor | None:
        """LongTensor [batch, pos], 0 at left padding; None if there is no padding."""
        if not bool((tokens[:, 0] == self.pad_id).any()):
            return None
        real = (tokens != self.pad_id).cumsum(dim=1) > 0
        if self._pad_is_bos and self.default_prepend_bos:
            # The pad token stands for BOS too: the last of a leading run is the real one.
            real[:, :-1] |= real[:, 1:].clone()
        real |= ~real.any(dim=1, keepdim=True)
        return None if bool(real.all()) else real.long()

    def to_string(self, tokens: Tensor | Sequence[int] | int) -> str:
        """The text of some tokens, special ones included."""
        return str(self._tokenizer().decode(_ids(tokens), clean_up_tokenization_spaces=False))

    def to_str_tokens(self, text: Tokens, prepend_bos: bool | None = None) -> list[str]:
        """The text of each token of one prompt, in order.

        Raises:
            TokenError: more than one row of tokens was given.
        """
        tokens = self.to_tokens(text, prepend_bos) if isinstance(text, str) else text
        if isinstance(tokens, Tensor) and tokens.ndim == 2 and tokens.shape[0] != 1:
            raise TokenError("Give one row of tokens at a time.")
        return [self.to_string([i]) for i in _ids(tokens)]

    def to_single_token(self, text: str) -> int:
        """The id of a text that is exactly one token.

        Raises:
            TokenError: it is not; the sentence says into what it falls.
        """
        ids = self._tokenizer().encode(text, add_special_tokens=False)
        if len(ids) != 1:
            pieces = ", ".join(repr(self.to_string([i])) for i in ids[:8]) or "nothing"
            raise TokenError(
                f"{text!r:.60} is {len(ids)} tokens ({pieces}), not one; "
                "many words need a space in front."
            )
        return int(ids[0])

    @property
    def bos_id(self) -> int | None:
        """The id of the beginning-of-sequence token, None if there is none."""
        return None if self.tokenizer is None else self.tokenizer.bos_token_id

    @property
    def _pad_is_bos(self) -> bool:
        return self.bos_id is not None and self.pad_id == self.bos_id

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise MissingTokenizerError(
                f"{self.cfg.name} has no tokenizer; give token ids, or a tokenizer to from_hf."
            )
        return self.tokenizer

    def _encode(self, text: str, prepend_bos: bool | None) -> list[int]:
        tokenizer = self._tokenizer()
        bos = self.bos_id
        if prepend_bos and bos is None:
            raise TokenError(
                f"The tokenizer of {self.cfg.name} has no BOS token; use prepend_bos=False."
            )
        ids: list[int] = tokenizer.encode(text, add_special_tokens=prepend_bos is None)
        if not tokenizer.encode(text, add_special_tokens=False):
            raise EmptyPromptError("The prompt is empty; type at least one word.")
        wanted = self.default_prepend_bos if prepend_bos is None else prepend_bos
        if wanted and bos is not None and ids[:1] != [bos]:
            ids = [bos, *ids]
        return ids

    def _checked(self, tokens: Tensor) -> Tensor:
        """Token ids as LongTensor [batch, pos] on the model's device, checked."""
        if tokens.ndim == 1:
            tokens = tokens[None]
        if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise TokenError(
                "Tokens are whole numbers of the shape [batch, pos], not "
                f"{tokens.dtype} {list(tokens.shape)}."
            )
        if tokens.numel() == 0:
            raise EmptyPromptError("The prompt has no tokens; type at least one word.")
        n_ctx = self.cfg.n_ctx
        if n_ctx is not None and tokens.shape[1] > n_ctx:
            raise PromptTooLongError(
                f"The prompt has {tokens.shape[1]} tokens and {self.cfg.name} reads at most "
                f"{n_ctx}; shorten it."
            )
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.cfg.d_vocab:
            raise TokenError(
                f"Token id {low if low < 0 else high} is outside the vocabulary, "
                f"which has {self.cfg.d_vocab}."
            )
        return tokens.to(self.cfg.device, torch.long)

    def _as_tokens(self, tokens: Tokens) -> Tensor:
        """Tokens from whatever a run was given."""
        if isinstance(tokens, Tensor):
            return self._checked(tokens)
        if isinstance(tokens, str) or (len(tokens) > 0 and isinstance(tokens[0], str)):
            return self.to_tokens(tokens)  # type: ignore[arg-type]
        return self._checked(torch.tensor(tokens, dtype=torch.long))


def tokenizer_prepends_bos(tokenizer: Any) -> bool:
    """Whether a tokenizer by itself begins with BOS."""
    if tokenizer is None or tokenizer.bos_token_id is None:
        return False
    return bool(tokenizer.encode("a")[:1] == [tokenizer.bos_token_id])


def choose_pad_id(tokenizer: Any) -> int:
    """A token for padding that no text contains, so that padding can be told from text.

    The tokenizer's own, if it serves for nothing else; else a byte that UTF-8 never uses, which
    byte-level vocabularies contain all the same; else the end-of-sequence token.
    """
    if tokenizer is None:
        return -1
    reserved = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in reserved:
        return int(tokenizer.pad_token_id)
    # Byte-level vocabularies write the bytes 0xC0 and 0xFF, impossible in UTF-8, as these letters.
    for letter in ("\u00ff", "\u00c0"):
        found = tokenizer.get_vocab().get(letter)
        used = tokenizer.encode(f"{letter} a{letter}", add_special_tokens=False)
        if found is not None and found not in used:
            return int(found)
    fallback = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    return int(fallback)


def _ids(tokens: object) -> list[int]:
    if isinstance(tokens, Tensor):
        return [int(i) for i in tokens.reshape(-1).tolist()]
    if isinstance(tokens, int):
        return [tokens]
    return [int(i) for i in tokens]  # type: ignore[attr-defined]
