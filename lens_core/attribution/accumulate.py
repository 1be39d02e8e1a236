"""The answer along the residual stream, after each attention and each MLP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attribution.result import Accumulated
from lens_core.attribution.trace import Trace, question_value, trace
from lens_core.lens.head import head_logits

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

    Example:
        >>> path = accumulated(model, prompt, " Paris", " Rome")  # doctest: +SKIP
        >>> dict(zip(path.labels, path.steps))  # doctest: +SKIP
    """
    run = trace(model, prompt_or_tokens, target, foil, position, interventions)
    labels, layers, states = _states(run)
    constant = run.head.norm_bias + run.head.unembed_bias
    frozen = [float(state.cpu().double() @ run.head.direction) + constant for state in states]
    own_norm, probs = [], []
    with torch.no_grad():
        for state in states:
            # One state at a time: the vocabulary of all of them at once would be large.
            logits = head_logits(model, state[None])[0]
            own_norm.append(question_value(run.question, logits))
            probs.append(float(logits.softmax(-1)[run.question.target_id]))
    return Accumulated(
        question=run.question,
        labels=tuple(labels),
        layers=tuple(layers),
        frozen=np.array(frozen),
        own_norm=np.array(own_norm),
        target_probs=np.array(probs),
        value=run.value,
    )


def _states(run: Trace) -> tuple[list[str], list[int], list[Float[Tensor, " d_model"]]]:
    """The residual stream before block 0, and after each attention and MLP that can be told apart.

    What an intervention puts into the stream between two blocks belongs to the later one.
    """
    model, place = run.model, run.question.position
    labels, layers = ["embed"], [-1]
    states = [run.cache["resid_pre", 0][0, place]]
    for layer in range(model.cfg.n_layers):
        if model.has_site("resid_mid", layer):
            labels.append(f"attn {layer}")
            layers.append(layer)
            states.append(run.cache["resid_mid", layer][0, place])
        labels.append(f"mlp {layer}" if model.has_site("resid_mid", layer) else f"block {layer}")
        layers.append(layer)
        states.append(run.cache["resid_post", layer][0, place])
    return labels, layers, states
