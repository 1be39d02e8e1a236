"""What a trained lens says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.lens.identity import weights_dtype, weights_sha256

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.corpus import Rows


def provenance_of(
    model: HookedModel, rows: Rows, recipe: Mapping[str, Any], **figures: Any
) -> dict[str, Any]:
    """Model, corpus, recipe and figures as plain values that JSON can hold."""
    return {
        "model": model.cfg.name,
        # Of weights that are not in memory there is no hash.
        "weights_sha256": None if model.offloaded else weights_sha256(model),
        "weights_dtype": weights_dtype(model),
        "corpus": rows.name,
        "corpus_sha256": rows.sha256,
        "recipe": dict(recipe),
        **figures,
    }


def translator_figures(
    weight: Float[Tensor, "depth d_model d_model"] | None, bias: Float[Tensor, "depth d_model"]
) -> dict[str, list[float]]:
    """How large the translators are: near zero they are the logit lens, and undertrained.

    ``condition`` is the ratio of the largest to the smallest singular value of ``I + W``.
    """
    figures = {"bias_norm": bias.norm(dim=-1).tolist()}
    if weight is not None:
        matrices = weight.cpu() + torch.eye(weight.shape[-1])
        singular = torch.linalg.svdvals(matrices)
        figures["weight_norm"] = weight.flatten(1).norm(dim=-1).tolist()
        figures["spectral_norm"] = torch.linalg.matrix_norm(weight.cpu(), ord=2).tolist()
        figures["condition"] = (singular[:, 0] / singular[:, -1].clamp(min=1e-30)).tolist()
    return figures
