"""What a trained lens says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.corpus import Rows


def weights_sha256(model: HookedModel) -> str:
    """SHA-256 of every parameter's name, dtype, shape and bytes; offloaded ones by name alone."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.hf_model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)} ".encode())
        if not parameter.is_meta:
            raw = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().data)
    return digest.hexdigest()


def provenance_of(
    model: HookedModel, rows: Rows, recipe: Mapping[str, Any], **figures: Any
) -> dict[str, Any]:
    """Model, corpus, recipe and figures as plain values that JSON can hold."""
    return {
        "model": model.cfg.name,
        "weights_sha256": weights_sha256(model),
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
