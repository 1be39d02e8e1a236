"""What an edit does to ordinary text: perplexity of a corpus, and divergence from the model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.editing.evaluate.asking import UNEDITED, AnyEdit, Applied, applied
from lens_core.lens.corpus import Rows, read_corpus

if TYPE_CHECKING:
    from lens_core import HookedModel

DISABLING = 1.10  # an edit that raises the corpus perplexity by more has disabled the model
_ROWS_AT_ONCE = 16
_CONTEXT = 64  # tokens a row, so that an in-context edit fits in front


@dataclass(frozen=True)
class UnrelatedEffect:
    """What an edit did to text about other things.

    Attributes:
        perplexity_before, perplexity_after: per token.
        kl_nats: mean over tokens of KL(model || edited model).
        n_tokens: how many were read.
    """

    perplexity_before: float
    perplexity_after: float
    kl_nats: float
    n_tokens: int

    @property
    def ratio(self) -> float:
        """Perplexity after over before; 1 is no change, infinite where there is no number."""
        ratio = self.perplexity_after / self.perplexity_before
        return math.inf if math.isnan(ratio) else ratio

    @property
    def disabling(self) -> bool:
        """Whether the edit broke the model: more than 10% of perplexity."""
        return self.ratio > DISABLING


@dataclass(frozen=True, eq=False)
class UnrelatedText:
    """Rows of ordinary text with what the unedited model says of them.

    ``texts`` are the rows as words, so that those which name an edit's subject can be left out.
    """

    rows: Int[Tensor, "row pos"]
    texts: tuple[str, ...]
    log_probs: Float[Tensor, "row pos d_vocab"]

    @classmethod
    def of(
        cls,
        model: HookedModel,
        source: str | Iterable[str] = "world:601",
        *,
        n_rows: int = 32,
        context: int = _CONTEXT,
    ) -> UnrelatedText:
        """Read a corpus, as `lens_core.lens.read_corpus` does, and the model's answers to it.

        The default is text that the world generates, apart from what training drew.
        """
        rows: Rows = read_corpus(source, model, n_ctx=context, max_tokens=n_rows * context)
        texts = tuple(model.to_string(row) for row in rows.tokens)
        return cls(rows.tokens, texts, _log_probs(model, rows.tokens, UNEDITED))

    def __len__(self) -> int:
        """How many rows."""
        return len(self.rows)

    def without(self, names: Iterable[str]) -> UnrelatedText:
        """The rows that hold none of the names; all of them where that would be none."""
        words = [name.lower() for name in names if name.strip()]
        kept = [i for i, t in enumerate(self.texts) if not any(w in t.lower() for w in words)]
        if not words or not kept:
            return self
        return UnrelatedText(
            self.rows[kept], tuple(self.texts[i] for i in kept), self.log_probs[kept]
        )


def unrelated_effect(
    model: HookedModel, edit: AnyEdit, text: UnrelatedText, *, without: Iterable[str] = ()
) -> UnrelatedEffect:
    """What an edit does to a text.

    Args:
        without: rows that hold one of these words (a subject's name) are left out, unless that
            would leave none.
    """
    kept = text.without(without)
    rows, before = kept.rows, kept.log_probs
    made = applied(edit)
    nll_before = nll_after = kl = 0.0
    n = 0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        chosen = slice(start, start + _ROWS_AT_ONCE)
        after = _log_probs(model, rows[chosen], made)
        told, labels = before[chosen], rows[chosen, 1:, None]
        nll_before -= float(told[:, :-1].gather(-1, labels).sum(dtype=torch.float64))
        nll_after -= float(after[:, :-1].gather(-1, labels).sum(dtype=torch.float64))
        kl += float((told.exp() * (told - after))[:, :-1].sum(dtype=torch.float64))
        n += labels.numel()
    return UnrelatedEffect(_exp(nll_before / n), _exp(nll_after / n), max(kl / n, 0.0), n)


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


@torch.no_grad()
def _log_probs(
    model: HookedModel, rows: Int[Tensor, "row pos"], made: Applied
) -> Float[Tensor, "row pos d_vocab"]:
    """Of the next token after each token of the rows, with the edit's prefix before them."""
    ids = rows.to(model.cfg.device)
    n_before = 0
    if made.prefix:
        body = model.to_tokens(made.prefix, prepend_bos=False)[0]
        has_bos = model.bos_id is not None and bool((ids[:, 0] == model.bos_id).all())
        before = body.expand(len(ids), -1)
        ids = torch.cat([ids[:, :has_bos], before, ids[:, has_bos:]], 1)
        n_before = len(body)
        # What follows BOS follows the last token of the prefix now.
        start = [has_bos + n_before - 1] if has_bos else []
        where = torch.tensor([*start, *range(n_before + has_bos, ids.shape[1])])
        return model.run(ids, made.terms)[:, where].float().log_softmax(-1).cpu()
    return model.run(ids, made.terms).float().log_softmax(-1).cpu()
