"""Direct logit attribution: how much of an answer each part of the model wrote itself.

    from lens_core import HookedModel
    from lens_core.attribution import direct_logit_attribution

    model = HookedModel.from_pretrained("tiny-world")
    parts = direct_logit_attribution(model, "The Eiffel Tower is in", " Paris", " Rome")
    print(parts.by_component, parts.residual)

What it answers: the residual stream is a sum of what embedding, heads and MLPs wrote; with the
final norm's scale held fixed, a logit is a linear function of that sum, so it splits exactly into
one share for each. What it does not answer: what would happen without a part, because later parts
read what it wrote; that takes an ablation.

After Elhage et al., "A mathematical framework for transformer circuits" (2021), and Wang et al.,
"Interpretability in the wild" (2022, arXiv 2211.00593).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from lens_core.attribution.result import DirectAttribution

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention


def direct_logit_attribution(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    position: int = -1,
    interventions: Iterable[Intervention] = (),
) -> DirectAttribution:
    """Take one logit, or the difference of two, apart into what each part of the model wrote.

    Raw weights, nothing folded or centred. The final norm's scale at this position is held fixed;
    a norm between a part and the residual stream (Gemma 2, OLMo 2) is part of what the part writes,
    its scale held fixed too. A logit by itself has no zero (adding a number to all logits changes
    no probability), so a difference is usually the better question.

    Args:
        target: a token id, or a text that is exactly one token; None: the model's best guess.
        foil: the token whose logit is subtracted; None: the target's logit alone.
        position: which position's next-token prediction; negative counts from the end.
        interventions: what to change while the model runs; the parts are those of the changed run.

    Raises:
        AttributionError: an intervention after the last block, no such position, or a final norm
            or head that is not linear once its scale is fixed.
        TokenError: a target or foil that is not one token, or more than one prompt.

    Example:
        >>> parts = direct_logit_attribution(model, "The Eiffel Tower is in")  # doctest: +SKIP
        >>> parts.by_head.argmax(), parts.relative_residual  # doctest: +SKIP
    """
    raise NotImplementedError
