"""The answer of a run as figures, and how far two answers are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from lens_core.attribution.effects import Prediction
from lens_core.attribution.frozen import exact
from lens_core.attribution.result import Question
from lens_core.attribution.trace import question_value
from lens_core.lens.token_text import token_text

if TYPE_CHECKING:
    from lens_core import HookedModel


def prediction(
    model: HookedModel,
    question: Question,
    rows: Float[Tensor, "draw d_vocab"],
    top_k: int,
) -> Prediction:
    """The answer to a question; over several runs the mean logit and the mean probabilities."""
    probs = rows.float().softmax(-1).mean(0)
    top_probs, top_ids = probs.topk(min(top_k, len(probs)))
    target = float(probs[question.target_id])
    ids = top_ids.tolist()
    return Prediction(
        value=sum(question_value(question, row) for row in rows) / len(rows),
        target_prob=target,
        target_rank=1 + int((probs > target).sum()),
        top_ids=tuple(ids),
        top_texts=tuple(token_text(model, i) for i in ids),
        top_probs=tuple(top_probs.tolist()),
    )


def divergence_nats(
    before: Float[Tensor, " d_vocab"], after: Float[Tensor, "draw d_vocab"]
) -> Float[Tensor, " draw"]:
    """KL(before || after) of the next-token distributions, from logits."""
    reference = exact(before).log_softmax(-1)
    return (reference.exp() * (reference - exact(after).log_softmax(-1))).sum(-1).clamp(min=0)
