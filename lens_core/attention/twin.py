"""A model of the same shape that has learned nothing, to see what the shape alone gives."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM

from lens_core.model.errors import UnsupportedModelError

if TYPE_CHECKING:
    from lens_core import HookedModel


def random_twin(model: HookedModel, seed: int = 0) -> HookedModel:
    """The same model with every weight matrix redrawn from a normal of its own mean and deviation.

    Biases and norms are kept. As sizes are those of the trained weights, its attention is as sharp;
    a fresh initialisation would be all but even, and any score would look good beside it.

    Raises:
        UnsupportedModelError: the weights are offloaded.
    """
    if model.offloaded:
        raise UnsupportedModelError(
            "A random twin needs the weights in memory; load the model without offloading."
        )
    config = copy.deepcopy(model.hf_model.config)
    made = AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", trust_remote_code=False
    ).to(device=model.cfg.device, dtype=model.cfg.dtype)
    trained = dict(model.hf_model.named_parameters())
    with torch.no_grad():
        for number, (name, parameter) in enumerate(made.named_parameters()):
            own = trained[name]
            if own.ndim < 2:
                parameter.copy_(own)
                continue
            generator = torch.Generator(parameter.device).manual_seed(seed * 10_007 + number)
            mean, deviation = own.float().mean().item(), own.float().std().item()
            parameter.normal_(mean, deviation, generator=generator)
    made.requires_grad_(False)
    return type(model).from_hf(
        made,
        model.tokenizer,
        name=f"{model.cfg.name} with random weights",
        prepend_bos=model.default_prepend_bos,
        check=False,
    )
