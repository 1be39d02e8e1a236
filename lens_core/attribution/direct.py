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

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attribution.frozen import exact, tolerance
from lens_core.attribution.result import DirectAttribution, Part
from lens_core.attribution.trace import Trace, trace

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention

_STREAM_EDITS = ("resid_pre", "resid_mid", "resid_post", "attn_out")


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
    run = trace(model, prompt_or_tokens, target, foil, position, interventions)
    parts = [
        *embedding_parts(run),
        *(part for layer in range(model.cfg.n_layers) for part in block_parts(run, layer)),
        *constant_parts(run),
    ]
    return DirectAttribution(
        question=run.question,
        n_layers=model.cfg.n_layers,
        n_heads=model.cfg.n_heads,
        parts=tuple(parts),
        value=run.value,
        norm_scale=run.head.norm_scale,
        tolerance=tolerance(model.cfg.dtype),
    )


def embedding_parts(run: Trace) -> list[Part]:
    """The embeddings; all that enters block 0 as one where they cannot be told apart."""
    if not run.model.has_site("embed", None):
        return [Part("embed", None, None, run.share("resid_pre", 0))]
    parts = [Part("embed", None, None, run.share("embed"))]
    if run.model.has_site("pos_embed", None):
        parts.append(Part("pos_embed", None, None, run.share("pos_embed")))
    return parts


def block_parts(run: Trace, layer: int) -> list[Part]:
    """What one block adds to the residual stream."""
    model = run.model
    before = run.share("resid_post", layer - 1) if layer else _entering(run)
    if not (model.has_site("attn_out", layer) and model.has_site("mlp_out", layer)):
        return [Part("block", layer, None, run.share("resid_post", layer) - before)]
    parts = [*attention_parts(run, layer), Part("mlp", layer, None, run.share("mlp_out", layer))]
    if _edited(run, layer):
        written = sum(part.value for part in parts)
        edit = run.share("resid_post", layer) - before - written
        parts.append(Part("edit", layer, None, edit))
    return parts


def attention_parts(run: Trace, layer: int) -> list[Part]:
    """What the heads of one layer write, and its bias; the whole where heads cannot be read."""
    model = run.model
    if not has_heads(model, layer):
        return [Part("attn", layer, None, run.share("attn_out", layer))]
    heads, bias = head_values(run, layer, run.at("z", layer))
    values = [Part("head", layer, head, value) for head, value in enumerate(heads.tolist())]
    return [*values, Part("attn_bias", layer, None, bias)]


def has_heads(model: HookedModel, layer: int) -> bool:
    """Whether what single heads of a layer write can be read."""
    spec = model.spec.layers[layer]
    return model.has_site("z", layer) and spec.w_o is not None and spec.attn_out is not None


def head_values(
    run: Trace, layer: int, z: Float[Tensor, "*batch head d_head"]
) -> tuple[Float[Tensor, "*batch head"], float]:
    """The share of each head with these z, and of the layer's biases."""
    direction, constant = run.attention_direction(layer)
    readout = output_directions(run.model.W_O[layer], direction)
    bias = float(exact(run.model.b_O[layer]) @ direction) + constant
    return (z * readout).sum(-1), bias


def output_directions(
    weights: Float[Tensor, "*rows d_model"], direction: Float[Tensor, " d_model"]
) -> Float[Tensor, "*rows"]:
    """weights @ direction, the product in fp32 where the weights are, the result exact."""
    return exact(weights.float() @ direction.to(weights.device, torch.float32))


def constant_parts(run: Trace) -> list[Part]:
    """What the final norm, the head and the soft-cap add whatever the residual stream is."""
    head = run.head
    parts = [
        Part("norm_bias", None, None, head.norm_bias),
        Part("unembed_bias", None, None, head.unembed_bias),
    ]
    return parts if head.soft_cap is None else [*parts, Part("soft_cap", None, None, head.soft_cap)]


def _entering(run: Trace) -> float:
    return sum(part.value for part in embedding_parts(run))


def _edited(run: Trace, layer: int) -> bool:
    """Whether an intervention puts something into the stream that no part of the block wrote."""
    edits = [e for e in (*run.model._ambient(), *run.interventions) if e.site in _STREAM_EDITS]
    return any(e.layer is not None and run.model.resolve_layer(e.layer) == layer for e in edits)
