"""The answer along the residual stream, after each attention and each MLP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from lens_core.attribution.result import Accumulated

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention


def accumulated(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    position: int = -1,
    interventions: Iterable[Intervention] = (),
) -> Accumulated:
    """A logit (or difference) read from the residual stream after the embedding and every part.

    Through the last state's norm held fixed, the steps are the parts of
    `direct_logit_attribution`; through each state's own norm it is the logit lens (nostalgebraist
    2020). The arguments and errors are those of `direct_logit_attribution`.
    """
    raise NotImplementedError
