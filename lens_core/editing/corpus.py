"""The text whose keys are counted, as rows of tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.editing.errors import EditingError
from lens_core.editing.world import is_world_model, world_texts
from lens_core.lens.corpus import read_corpus
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    from lens_core import HookedModel

_PER_DIMENSION, _WRITTEN_PER_DIMENSION = 20, 12
_ROW, _WRITTEN_ROW = 128, 48
_ROWS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Corpus:
    """Rows of tokens of one length.

    Attributes:
        tokens: Int [row, pos]; sha256: of them.
        source: what they are; approximate: whether it is not the model's own training text.
    """

    tokens: Int[Tensor, "row pos"]
    source: str
    approximate: bool

    @property
    def n_tokens(self) -> int:
        """How many tokens, those that begin a row included."""
        return self.tokens.numel()

    @property
    def sha256(self) -> str:
        """Of the token ids, as 64-bit little-endian numbers, and of the rows' length."""
        digest = hashlib.sha256(f"{tuple(self.tokens.shape)} ".encode())
        digest.update(self.tokens.cpu().long().numpy().astype("<i8").tobytes())
        return digest.hexdigest()


def own_corpus(model: HookedModel, d_mlp: int, n_tokens: int | None, seed: int) -> Corpus:
    """Text of a model's own: its world's if it has one, else what it writes itself."""
    if is_world_model(model):
        n_tokens = n_tokens or _PER_DIMENSION * d_mlp
        corpus = rows_of_texts(model, world_texts(f"covariance {seed}"), n_tokens)
        return Corpus(corpus.tokens, f"text of the world, seed {seed}", approximate=False)
    n_tokens = n_tokens or _WRITTEN_PER_DIMENSION * d_mlp
    rows = torch.cat(list(_written(model, n_tokens, seed)))
    return Corpus(rows, f"text that {model.cfg.name} writes, seed {seed}", approximate=True)


def rows_of_texts(model: HookedModel, texts: Iterable[str], n_tokens: int | None) -> Corpus:
    """Given texts, packed as the model was trained on them.

    Raises:
        EditingError: there is too little text for one row.
    """
    length = min(_ROW, model.cfg.n_ctx or _ROW)
    try:
        rows = read_corpus(texts, model, n_ctx=length, max_tokens=n_tokens)
    except LensError as error:
        raise EditingError(f"The key statistics need more text. {error}") from None
    return Corpus(rows.tokens.to(model.cfg.device), "the texts given", approximate=True)


def _written(model: HookedModel, n_tokens: int, seed: int) -> Iterator[Tensor]:
    length = min(_WRITTEN_ROW, model.cfg.n_ctx or _WRITTEN_ROW)
    generator = torch.Generator().manual_seed(seed)
    for part in range(0, -(-n_tokens // length), _ROWS_AT_ONCE):
        n_rows = min(_ROWS_AT_ONCE, -(-n_tokens // length) - part)
        start = torch.randint(0, model.cfg.d_vocab, (n_rows, 1), generator=generator)
        if model.bos_id is not None:
            start = torch.full((n_rows, 1), model.bos_id)
        start = start.to(model.cfg.device)
        yield model.generate(
            start,
            length - 1,
            temperature=1.0,
            seed=seed + part,
            stop_at_eos=False,
            attention_mask=torch.ones_like(start),
        )
