"""Inside one part: a head's share by source token, an MLP's share by neuron."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from lens_core.attribution.result import NeuronAttribution, SourceAttribution

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention


def source_attribution(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    layer: int,
    head: int,
    position: int = -1,
    interventions: Iterable[Intervention] = (),
) -> SourceAttribution:
    """Which tokens a head took its part of a logit from: attention times what is moved from there.

    The arguments are those of `direct_logit_attribution`, whose part for this head is the sum.

    Raises:
        AttributionError: also if the layer has no heads that can be told apart.
    """
    raise NotImplementedError


def neuron_attribution(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    target: int | str | None = None,
    foil: int | str | None = None,
    *,
    layer: int,
    k: int = 10,
    position: int = -1,
    interventions: Iterable[Intervention] = (),
) -> NeuronAttribution:
    """Which neurons of an MLP wrote its part of a logit: activation times output weights.

    The arguments are those of `direct_logit_attribution`, whose part for this MLP is the sum.

    Raises:
        AttributionError: also if the layer's neurons cannot be told apart (mixtures of experts).
    """
    raise NotImplementedError
