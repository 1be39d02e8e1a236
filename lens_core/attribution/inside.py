"""Inside one part: a head's share by source token, an MLP's share by neuron."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from lens_core.attention.prompt import check_head
from lens_core.attribution.direct import head_values, output_directions
from lens_core.attribution.frozen import exact
from lens_core.attribution.result import NeuronAttribution, SourceAttribution
from lens_core.attribution.trace import part_layer, trace

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
        UnknownSiteError: there is no such layer or head.

    Example:
        >>> source_attribution(model, prompt, " Paris", layer=6, head=4).values  # doctest: +SKIP
    """
    layer = part_layer(model, layer, "z")
    check_head(model, head)
    sites = [(site, layer) for site in ("pattern", "v", "z")]
    run = trace(model, prompt_or_tokens, target, foil, position, interventions, sites)
    pattern = exact(run.cache["pattern", layer][0, head, run.question.position])
    moved = exact(run.cache["v", layer][0])
    per_head = moved.repeat_interleave(model.cfg.n_heads // moved.shape[1], dim=1)
    values, _ = head_values(run, layer, per_head)
    heads, _ = head_values(run, layer, run.at("z", layer))
    return SourceAttribution(
        question=run.question,
        layer=layer,
        head=head,
        values=(pattern * values[:, head]).numpy(),
        weights=pattern.numpy(),
        value=float(heads[head]),
    )


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

    Example:
        >>> neuron_attribution(model, prompt, " Paris", layer=6).neurons  # doctest: +SKIP
    """
    layer = part_layer(model, layer, "mlp_post")
    sites = [("mlp_post", layer), ("mlp_out", layer)]
    run = trace(model, prompt_or_tokens, target, foil, position, interventions, sites)
    direction, constant = run.mlp_direction(layer)
    activations = run.at("mlp_post", layer)
    values = activations * output_directions(model.W_out[layer], direction)
    strongest = values.abs().argsort(descending=True)
    top, rest = strongest[:k], strongest[k:]
    return NeuronAttribution(
        question=run.question,
        layer=layer,
        neurons=top.numpy(),
        values=values[top].numpy(),
        activations=activations[top].numpy(),
        others=float(values[rest].sum()),
        n_others=len(rest),
        bias=float(exact(model.b_out[layer]) @ direction) + constant,
        value=run.share("mlp_out", layer),
    )
