"""A model's parameter count and the memory of its weights, known from its config alone.

    size = estimate(AutoConfig.from_pretrained("gpt2"))
    size.n_params, size.gb(torch.float16)

The model is built on torch's `meta` device, which allocates nothing, so this answers before any
weight is fetched. One gigabyte is 1e9 bytes. Activations and the KV cache come on top: for one
short prompt they are small beside the weights.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from lens_core.model.errors import LensError, ModelTooLargeError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LIMIT_VARIABLE = "LENS_LAB_MAX_MODEL_GB"
# No published model has a tenth of this; a config that asks for more would build modules without
# end.
MAX_LAYERS = 1_000


@dataclass(frozen=True)
class ModelSize:
    """What the weights of one model amount to; tied weights count once."""

    n_params: int

    def gb(self, dtype: torch.dtype) -> float:
        """Memory of the weights in gigabytes (1e9 bytes), every parameter held as `dtype`."""
        return self.n_params * dtype.itemsize / 1e9


def causal_class(config: "PreTrainedConfig") -> "type[PreTrainedModel]":
    """The class of transformers that runs this config as a causal language model.

    Raises UnsupportedModelError where there is none.
    """
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModelError(
            f"transformers has no causal language model for the type {config.model_type!r}; "
            "choose a decoder-only model."
        )
    entry = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if isinstance(entry, list | tuple):
        named = config.architectures or []
        return next((cls for cls in entry if cls.__name__ in named), entry[0])
    return entry


def estimate(config: "PreTrainedConfig") -> ModelSize:
    """Parameter count of the causal language model that `config` describes.

    Raises UnsupportedModelError when there is no such model, or when the config's sizes do not fit
    together.
    """
    layers = getattr(config.get_text_config(), "num_hidden_layers", None) or 0
    if layers > MAX_LAYERS:
        raise UnsupportedModelError(
            f"The config asks for {layers} layers; check it, {MAX_LAYERS} is the most."
        )
    model_class = causal_class(config)
    try:
        with torch.device("meta"):
            model = model_class(config)
    except Exception as error:
        raise UnsupportedModelError(
            f"The config's sizes do not make a {model_class.__name__}; check its config.json."
        ) from error
    return ModelSize(sum(parameter.numel() for parameter in model.parameters()))


def memory_limit_gb(limit_gb: float | None = None) -> float | None:
    """The limit in force: the argument, else the environment's LENS_LAB_MAX_MODEL_GB, else none."""
    if limit_gb is not None:
        return limit_gb
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise LensError(
            f"Set the variable {LIMIT_VARIABLE} to a number of gigabytes; it is {text!r}."
        ) from None


def check_limit(
    name: str, size: ModelSize, dtype: torch.dtype, limit_gb: float | None = None
) -> None:
    """Raise ModelTooLargeError, with both figures, when the weights need more than the limit."""
    limit = memory_limit_gb(limit_gb)
    needed = size.gb(dtype)
    if limit is not None and needed > limit:
        raise ModelTooLargeError(
            f"{name} has {size.n_params / 1e6:,.1f} million parameters and needs {needed:.2f} GB "
            f"as {str(dtype).removeprefix('torch.')}, more than the limit of {limit:g} GB; "
            f"choose a smaller model or raise {LIMIT_VARIABLE}."
        )
