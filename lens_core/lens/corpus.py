"""Text as rows of tokens, for training and evaluating lenses.

    rows = read_corpus("pile.jsonl.zst", model, n_ctx=128, max_tokens=200_000)
    train, held_out = split_rows(rows)

Rows are what the model itself was trained on: documents one after another with the token between
them that its training had, cut to exactly ``n_ctx``. No document is in two splits, nor in two
clusters of a bootstrap: a row's ``document`` is shared by every row that holds a part of a text
that the row holds a part of.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.lens.corpus_sources import WORLD, documents_of, world_documents
from lens_core.lens.errors import LensDataError
from lens_core.model.errors import MissingTokenizerError

if TYPE_CHECKING:
    from lens_core import HookedModel

__all__ = ["WORLD", "Rows", "read_corpus", "split_rows", "world_documents"]

WORLD_TOKENS = 200_000  # generated text has no end of its own
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of tokens of one length.

    Attributes:
        tokens: Int [row, n_ctx], on the CPU.
        documents: Int [row], the first document that the row is tied to; rows with the same number
            belong together in splits and bootstraps.
        nats_to_bits_per_byte: bits per UTF-8 byte of one nat per token.
        sha256: of the token ids, as 64-bit little-endian numbers.
    """

    tokens: Int[Tensor, "row n_ctx"]
    documents: Int[Tensor, " row"]
    nats_to_bits_per_byte: float
    name: str
    sha256: str

    def __len__(self) -> int:
        """How many rows."""
        return len(self.tokens)

    @classmethod
    def of(cls, tokens: Tensor, documents: Tensor, nats_to_bits_per_byte: float, name: str) -> Rows:
        """Rows with their hash."""
        tokens = tokens.to("cpu", torch.long).contiguous()
        digest = hashlib.sha256(tokens.numpy().astype("<i8").tobytes()).hexdigest()
        return cls(tokens, documents.cpu().long(), nats_to_bits_per_byte, name, digest)

    def take(self, index: Tensor, name: str | None = None) -> Rows:
        """Some of the rows, by their numbers or by a mask."""
        return Rows.of(
            self.tokens[index],
            self.documents[index],
            self.nats_to_bits_per_byte,
            name or self.name,
        )


def read_corpus(
    source: str | Path | Iterable[str],
    model: HookedModel,
    *,
    n_ctx: int = 128,
    max_tokens: int | None = None,
    text_column: str = "text",
    split: str = "train",
    revision: str | None = None,
) -> Rows:
    """Texts as rows of exactly ``n_ctx`` tokens, in their order.

    Args:
        source: a ``.jsonl``, ``.jsonl.zst`` or ``.txt`` file (documents between blank lines);
            ``"world"`` or ``"world:7"``, text that `lens_core.world` generates, by seed, apart from
            what the shipped model was trained on; the name of a hub dataset, with its config after
            a space; or an iterable of documents.
        max_tokens: at most so many; None is all (`WORLD_TOKENS` of generated text).
        split, revision: of a hub dataset.

    A row of a model that is given BOS begins with it. The rest of a text that does not fit goes
    into the next row if that is half a row or more; a shorter rest is left out, so that few rows
    begin in the middle of a text.

    Raises:
        LensDataError: no such file, another format, a column that is not there, or too little text.
        MissingTokenizerError: the model has no tokenizer.
        MissingDependencyError, HubUnreachableError: a hub dataset that cannot be fetched.
    """
    _check_length(model, n_ctx)
    name, documents = documents_of(source, text_column=text_column, split=split, revision=revision)
    if max_tokens is None and isinstance(source, str) and name.partition(":")[0] == WORLD:
        max_tokens = WORLD_TOKENS
    packer = _Packer(model, n_ctx)
    rows = packer.rows(documents)
    kept = list(islice(rows, None if max_tokens is None else max_tokens // n_ctx))
    if not kept:
        raise LensDataError(
            f"{name} gives no row of {n_ctx} tokens ({packer.n_tokens} tokens read); give more "
            "text, more tokens, or a smaller n_ctx."
        )
    tokens, owners = zip(*kept, strict=True)
    ratio = packer.n_tokens / packer.n_bytes / math.log(2)
    return Rows.of(torch.from_numpy(np.stack(tokens)), torch.tensor(owners), ratio, name)


def split_rows(rows: Rows, held_out: float = 0.1, *, seed: int = 0) -> tuple[Rows, Rows]:
    """Rows to train on and rows held out, with no document in both.

    The held-out share is counted in rows, as nearly as whole documents allow.

    Raises:
        LensDataError: all rows are tied to one document, so that none can be held out.
    """
    if not 0.0 < held_out < 1.0:
        raise LensDataError(f"The held-out share is between 0 and 1, not {held_out}.")
    groups = rows.documents.unique()
    if len(groups) < 2:
        raise LensDataError(
            f"{rows.name} is one document; give several, so that some can be held out."
        )
    generator = torch.Generator().manual_seed(seed)
    order = groups[torch.randperm(len(groups), generator=generator)]
    sizes = torch.stack([(rows.documents == group).sum() for group in order])
    wanted = held_out * len(rows)
    n_groups = int((sizes.cumsum(0) < wanted).sum()) + 1
    is_held = torch.isin(rows.documents, order[: min(n_groups, len(order) - 1)])
    return rows.take(~is_held), rows.take(is_held, f"{rows.name}, held out")


def _check_length(model: HookedModel, n_ctx: int) -> None:
    longest = model.cfg.n_ctx
    if n_ctx < 2 or (longest is not None and n_ctx > longest):
        raise LensDataError(
            f"A row of {n_ctx} tokens does not fit {model.cfg.name}; choose 2 to "
            f"{longest or 'any number'}."
        )
    if model.tokenizer is None:
        raise MissingTokenizerError(
            f"{model.cfg.name} has no tokenizer, so that no text can be read for it; make Rows of "
            "token ids instead."
        )


class _Packer:
    """Documents into rows, counting what they were made of."""

    def __init__(self, model: HookedModel, n_ctx: int) -> None:
        self.tokenizer = model.tokenizer
        self.n_ctx = n_ctx
        self.n_tokens = 0
        self.n_bytes = 0
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        if model.default_prepend_bos and bos is not None:
            self.row_start = [bos]
            self.before = [bos]
            self.after = [eos] if eos is not None and eos != bos else []
        else:
            self.row_start = []
            self.before = [token for token in (eos, bos) if token is not None][:1]
            self.after = []

    def rows(self, documents: Iterator[str]) -> Iterator[tuple[np.ndarray, int]]:
        """Rows, each with the first document that it is tied to."""
        row: list[int] = []
        owner = -1
        for number, ids in enumerate(self._encoded(documents)):
            if not row:
                owner = number
            row += [*self.before, *ids, *self.after]
            while len(row) >= self.n_ctx:
                yield np.array(row[: self.n_ctx], dtype=np.int64), owner
                rest = row[self.n_ctx :]
                row = [*self.row_start, *rest] if 2 * len(rest) >= self.n_ctx else []

    def _encoded(self, documents: Iterator[str]) -> Iterator[list[int]]:
        while batch := list(islice(documents, _BATCH)):
            if not all(isinstance(text, str) for text in batch):
                raise LensDataError("Every document is a text; give strings.")
            # Half of a surrogate pair, which JSON allows, is no text to a tokenizer.
            raw = [text.encode("utf-8", errors="replace") for text in batch if text.strip()]
            if not raw:
                continue
            texts = [part.decode() for part in raw]
            encoded = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            extra = len(self.before) + len(self.after)
            for part, ids in zip(raw, encoded, strict=True):
                self.n_bytes += len(part)
                self.n_tokens += len(ids) + extra
                yield list(ids)
