"""Text that the model writes about an edit's subject, with the edit and without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lens_core.editing.evaluate.asking import UNEDITED, AnyEdit, applied, text_of
from lens_core.editing.evaluate.text_scores import fluency, tfidf_cosine
from lens_core.interventions import custom

if TYPE_CHECKING:
    from lens_core import HookedModel

TOP_K = 5  # as the published code samples
NEW_TOKENS = 40  # the published code's texts end at 100 tokens; the shipped model reads 128 in all


@dataclass(frozen=True)
class FreeText:
    """Generated texts and their scores.

    Attributes:
        texts: one a prompt, the prompt included.
        fluency_bits: mean of the texts' weighted n-gram entropies (GE, which the paper prints a
            hundredfold).
        consistency: cosine with texts about subjects of which the new answer is true (RS), 0 to 1;
            NaN without such texts.
    """

    texts: tuple[str, ...]
    fluency_bits: float
    consistency: float


def free_text(
    model: HookedModel,
    prompts: Sequence[str],
    references: Sequence[str] = (),
    edit: AnyEdit = UNEDITED,
    *,
    max_new_tokens: int = NEW_TOKENS,
    seed: int = 0,
) -> FreeText:
    """Continue each prompt by top-5 sampling and score the texts.

    Fixed by the seed, so that the two models draw the same random numbers.
    """
    made = applied(edit)
    if not prompts:
        return FreeText((), math.nan, math.nan)
    tokens = model.to_tokens([made.prefix + p for p in prompts])
    full = model.generate(
        tokens,
        max_new_tokens,
        interventions=[*made.terms, custom("logits", None, _only_top)],
        temperature=1.0,
        seed=seed,
    )
    written = [text_of(model, row[tokens.shape[1] :].tolist()) for row in full]
    texts = tuple(p + w for p, w in zip(prompts, written, strict=True))
    alike = tfidf_cosine(" ".join(texts), " ".join(references)) if references else math.nan
    return FreeText(texts, sum(map(fluency, texts)) / len(texts), alike)


def _only_top(logits: Tensor) -> Tensor:
    kept = logits.topk(min(TOP_K, logits.shape[-1]), dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)
